-- KEYS[1] the request's challenge. ARGV: nonce hash, reservation.
local c = redis.call('HMGET', KEYS[1], 'nh', 'rid', 'fence')
if not c[1] or c[1] ~= ARGV[1] or c[2] ~= ARGV[2] then return 'stale' end
if not master or c[3] ~= fence then return 'epoch' end
redis.call('HDEL', KEYS[1], 'rid', 'lease')
return 'done'
