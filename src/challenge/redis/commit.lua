-- KEYS[1] the request's challenge, KEYS[2] the mark of the nonce as spent. ARGV: nonce hash, reservation, grace.
-- Returns {'done', address} once, and again for the same reservation; else {'stale'} or {'epoch'}.
if not master then return { 'epoch' } end
local mark = redis.call('GET', KEYS[2])
if mark then
  if mark == ARGV[2] .. '|' .. fence then return { 'done', '' } end
  return { 'stale' }
end
local c = redis.call('HMGET', KEYS[1], 'nh', 'rid', 'fence', 'exp', 'ad')
if not c[1] or c[1] ~= ARGV[1] or c[2] ~= ARGV[2] then return { 'stale' } end
if c[3] ~= fence then return { 'epoch' } end
redis.call('SET', KEYS[2], ARGV[2] .. '|' .. fence, 'PXAT', string.format('%.0f', math.max(tonumber(c[4]), now) + tonumber(ARGV[3])))
redis.call('DEL', KEYS[1])
return { 'done', c[5] or '' }
