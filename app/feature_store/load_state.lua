-- Put loaded states in place, unless that would lose something that is there.
--
-- KEYS  for each user: 1 state  2 erased
-- ARGV  for each user: 1 hashed user  2 the packed state  3 SHA-1 of the stored state it was merged with, or ''
-- Returns for each user {loaded | merged | unchanged | erased}, or {other, the stored state} when the caller must
-- merge first.
local function put(state, erased, user, packed, merged_with)
  if redis.call('HEXISTS', erased, user) == 1 then return {'erased'} end
  local stored = redis.call('GET', state)
  if not stored then
    redis.call('SET', state, packed)
    return {'loaded'}
  end
  -- bytes 25 to 32 are the load tag: this very load was here before
  if stored:byte(1) == packed:byte(1) and string.sub(stored, 25, 32) == string.sub(packed, 25, 32) then
    return {'unchanged'}
  end
  if redis.sha1hex(stored) == merged_with then
    redis.call('SET', state, packed)
    return {'merged'}
  end
  return {'other', stored}
end

local replies = {}
for i = 1, #KEYS / 2 do
  replies[i] = put(KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i])
end
return replies
