-- In front of every script: the time and the identity of the server that runs it. All times are milliseconds.
-- The fence: a nonce is good only on the process, and in the replication history, that issued it (security.md §2.2).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local replication = redis.call('INFO', 'replication')
local fence = (string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '')
  .. ':' .. (string.match(replication, 'master_replid:(%x+)') or '')
local master = string.find(replication, 'role:master', 1, true) ~= nil
