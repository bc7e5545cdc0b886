-- KEYS[1] the request's challenge.
-- Returns its fields when it is open: id, key id, nonce hash, digest, expiry, fence, MAC.
local c = redis.call('HMGET', KEYS[1], 'id', 'kid', 'nh', 'dg', 'exp', 'fence', 'mac', 'rid', 'lease', 'att')
if not c[1] or c[6] ~= fence then return false end
if c[8] then
  if now > tonumber(c[9]) then return false end
elseif now > tonumber(c[5]) or tonumber(c[10]) >= tonumber(ARGV[1]) then
  return false
end
return { c[1], c[2], c[3], c[4], c[5], c[6], c[7] }
