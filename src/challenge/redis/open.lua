-- KEYS[1] the request's challenge.
-- ARGV: fence as the caller knows it, id, key id, nonce hash, digest, expiry, MAC, longest life, grace, address, attempts, id that may be replaced.
-- Returns {'opened'}, {'existing', fields...}, {'fence', fence} or {'clock'}.
if not master or ARGV[1] ~= fence then return { 'fence', fence } end
local exp = tonumber(ARGV[6])
if exp <= now or exp > now + tonumber(ARGV[8]) then return { 'clock' } end
local c = redis.call('HMGET', KEYS[1], 'id', 'kid', 'nh', 'dg', 'exp', 'fence', 'mac', 'rid', 'lease', 'att')
if c[1] and c[6] == fence and (c[1] ~= ARGV[12] or c[8]) then
  local live
  if c[8] then live = now <= tonumber(c[9]) else live = now <= tonumber(c[5]) and tonumber(c[10]) < tonumber(ARGV[11]) end
  if live then return { 'existing', c[1], c[2], c[3], c[4], c[5], c[6], c[7] } end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'kid', ARGV[3], 'nh', ARGV[4], 'dg', ARGV[5], 'exp', ARGV[6], 'fence', fence, 'mac', ARGV[7], 'ad', ARGV[10], 'att', '0')
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', exp + tonumber(ARGV[9])))
return { 'opened' }
