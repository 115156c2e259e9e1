-- Delete a user's state and event ids, and leave a tombstone for what was written to the stream until now.
--
-- KEYS  1 state  2 stream  3 4 5 event ids  6 erasing  7 erased   ARGV  1 user  2 hashed user  3 now (ms)
-- Returns {last stream id, 1 if there was a state, event ids deleted}.
local boundary = '0-0'
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then boundary = info[i + 1] end
  end
end
local event_ids = 0
for i = 3, 5 do event_ids = event_ids + redis.call('HLEN', KEYS[i]) end
local states = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('HSET', KEYS[6], ARGV[1], boundary)
redis.call('HSET', KEYS[7], ARGV[2], ARGV[3])
return {boundary, states, event_ids}
