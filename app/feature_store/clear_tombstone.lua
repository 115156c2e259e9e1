-- Remove a tombstone that was applied, unless the user was erased once more since.
--
-- KEYS  1 erasing   ARGV  1 user  2 the last stream id it was applied for
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
