-- KEYS[1] the request's challenge, KEYS[2] the mark of the nonce as spent.
-- ARGV: nonce hash, reservation, lease, most attempts, grace.
-- Returns {'reserved', attempt, id, key id, nonce hash, digest, expiry, fence, MAC} or {why not}.
if not master then return { 'epoch' } end
if redis.call('EXISTS', KEYS[2]) == 1 then return { 'spent' } end
local c = redis.call('HMGET', KEYS[1], 'id', 'kid', 'nh', 'dg', 'exp', 'fence', 'mac', 'rid', 'lease', 'att')
if not c[1] or c[3] ~= ARGV[1] then return { 'unknown' } end
if c[6] ~= fence then return { 'epoch' } end
local exp = tonumber(c[5])
if c[8] then
  if c[8] == ARGV[2] then return { 'reserved', c[10], c[1], c[2], c[3], c[4], c[5], c[6], c[7] } end
  if now <= tonumber(c[9]) then return { 'inflight' } end
  -- Its holder never said how it ended: the secret may have been delivered.
  redis.call('SET', KEYS[2], c[8] .. '|' .. fence, 'PXAT', string.format('%.0f', math.max(exp, now) + tonumber(ARGV[5])))
  redis.call('DEL', KEYS[1])
  return { 'indoubt' }
end
if now > exp then return { 'expired' } end
if tonumber(c[10]) >= tonumber(ARGV[4]) then return { 'attempts' } end
local attempt = redis.call('HINCRBY', KEYS[1], 'att', 1)
local lease = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'rid', ARGV[2], 'lease', string.format('%.0f', lease))
-- The record must outlive its lease, else an expiry in mid-flight would forget who holds it.
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(exp, lease) + tonumber(ARGV[5])))
return { 'reserved', tostring(attempt), c[1], c[2], c[3], c[4], c[5], c[6], c[7] }
