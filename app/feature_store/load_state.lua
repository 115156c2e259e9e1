-- Put a loaded state in place, unless that would lose something that is there.
--
-- KEYS  1 state  2 erased
-- ARGV  1 hashed user  2 the packed state  3 SHA-1 of the stored state it was merged with, or ''
-- Returns {loaded | merged | unchanged | erased}, or {other, the stored state} when the caller must merge first.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return {'erased'} end
local stored = redis.call('GET', KEYS[1])
if not stored then
  redis.call('SET', KEYS[1], ARGV[2])
  return {'loaded'}
end
-- bytes 25 to 32 are the load tag: this very load was here before
if stored:byte(1) == ARGV[2]:byte(1) and string.sub(stored, 25, 32) == string.sub(ARGV[2], 25, 32) then
  return {'unchanged'}
end
if redis.sha1hex(stored) == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[2])
  return {'merged'}
end
return {'other', stored}
