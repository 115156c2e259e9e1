-- Apply one event to a user's packed state and append it to the stream: all or nothing.
-- The format is models/contract/state.py's, and the result must equal that of `apply` in state_parts.py, byte for byte.
--
-- KEYS  1 state  2 stream  [3 ids before  4 ids now  5 ids after]   all in one slot; the ids only with an event_id
-- ARGV  1 time (i64, ms)  2 item hash (u64)  3 type hash (u32)  4 item id  5 "1" if it counts as seen
--       6 history limit  7 seen limit  8 the event as JSON  9 event id  10 digest of its content  11 ms the ids live
-- Returns accepted, duplicate or conflict.
--
-- Lua's numbers are doubles: a 64-bit hash stays a byte string and is compared as two 32-bit halves (never with `<`
-- on strings, which follows the server's locale). Times in ms stay below 2^53.
local HEADER, VERSION, EVICTED = 32, 1, 1
local COUNTER_DAYS, DAY_MS, MAX_COUNT = 32, 86400000, 4294967295
local pack, unpack, sub, floor = struct.pack, struct.unpack, string.sub, math.floor

local event_id, digest = ARGV[9], ARGV[10]
for i = 3, #KEYS do
  local known = redis.call('HGET', KEYS[i], event_id)
  if known then
    return known == digest and 'duplicate' or 'conflict'
  end
end

local item_hash, type_bytes, item_id = ARGV[2], ARGV[3], ARGV[4]
local history_limit, seen_limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local hash_low, hash_high = unpack('<I4I4', item_hash)
local type_hash = unpack('<I4', type_bytes)
local time_low, time_high = unpack('<I4I4', ARGV[1])
local time_ms = time_high * 4294967296 + time_low
local time_s, day = floor(time_ms / 1000), floor(time_ms / DAY_MS)

-- Read the state; an absent, unknown or damaged one is empty.
local times, hashes, seen, seen_times, types, counters, lengths, ids, features = '', '', '', '', '', '', '', '', ''
local flags, load_tag = 0, pack('<I4I4', 0, 0)
local raw = redis.call('GET', KEYS[1])
if raw and #raw >= HEADER and raw:byte(1) == VERSION then
  local n, m, c, id_bytes, feature_bytes = unpack('<I4I4I4I4I4', raw, 5)
  if #raw == HEADER + 22 * n + 12 * m + 12 * c + id_bytes + feature_bytes then
    local at = HEADER + 1
    local function take(size)
      at = at + size
      return sub(raw, at - size, at - 1)
    end
    flags, load_tag = raw:byte(2), sub(raw, 25, 32)
    times, hashes, seen, seen_times = take(8 * n), take(8 * n), take(8 * m), take(4 * m)
    types, counters, lengths, ids, features = take(4 * n), take(12 * c), take(2 * n), take(id_bytes), take(feature_bytes)
  end
end

-- The string `column` of records of `size` bytes with `record` put in front of record `i`, counted from 0.
local function insert(column, size, i, record)
  return sub(column, 1, size * i) .. record .. sub(column, size * i + 1)
end

-- History: after every entry that is not greater by (time, hash, type).
local function entry_is_greater(i)
  local low, high = unpack('<I4I4', times, 8 * i + 1)
  local other = high * 4294967296 + low
  if other ~= time_ms then return other > time_ms end
  low, high = unpack('<I4I4', hashes, 8 * i + 1)
  if high ~= hash_high then return high > hash_high end
  if low ~= hash_low then return low > hash_low end
  return unpack('<I4', types, 4 * i + 1) > type_hash
end

local n = #times / 8
local place = n
while place > 0 and entry_is_greater(place - 1) do place = place - 1 end
local id_start = #ids
for i = place, n - 1 do id_start = id_start - unpack('<H', lengths, 2 * i + 1) end
times = insert(times, 8, place, ARGV[1])
hashes = insert(hashes, 8, place, item_hash)
types = insert(types, 4, place, type_bytes)
lengths = insert(lengths, 2, place, pack('<H', #item_id))
ids = insert(ids, 1, id_start, item_id)
n = n + 1
local dropped, dropped_bytes = math.max(n - history_limit, 0), 0
for i = 0, dropped - 1 do dropped_bytes = dropped_bytes + unpack('<H', lengths, 2 * i + 1) end
times, hashes, types = sub(times, 8 * dropped + 1), sub(hashes, 8 * dropped + 1), sub(types, 4 * dropped + 1)
lengths, ids = sub(lengths, 2 * dropped + 1), sub(ids, dropped_bytes + 1)

-- Seen: sorted by hash, found by bisection; of too many those seen longest ago go, of equal times the smaller hashes.
if ARGV[5] == '1' then
  local low_i, high_i = 0, #seen / 8
  while low_i < high_i do
    local middle = floor((low_i + high_i) / 2)
    local low, high = unpack('<I4I4', seen, 8 * middle + 1)
    if high < hash_high or (high == hash_high and low < hash_low) then low_i = middle + 1 else high_i = middle end
  end
  if sub(seen, 8 * low_i + 1, 8 * low_i + 8) == item_hash then
    local last = math.max(unpack('<I4', seen_times, 4 * low_i + 1), time_s)
    seen_times = sub(seen_times, 1, 4 * low_i) .. pack('<I4', last) .. sub(seen_times, 4 * low_i + 5)
  else
    seen = insert(seen, 8, low_i, item_hash)
    seen_times = insert(seen_times, 4, low_i, pack('<I4', time_s))
  end
end

local excess = #seen / 8 - seen_limit
if excess == 1 then
  local oldest, oldest_i = math.huge, 0
  for i = 0, #seen / 8 - 1 do
    local time = unpack('<I4', seen_times, 4 * i + 1)
    if time < oldest then oldest, oldest_i = time, i end
  end
  seen = sub(seen, 1, 8 * oldest_i) .. sub(seen, 8 * oldest_i + 9)
  seen_times = sub(seen_times, 1, 4 * oldest_i) .. sub(seen_times, 4 * oldest_i + 5)
  flags = EVICTED
elseif excess > 1 then -- the limit was lowered
  local order, time = {}, {}
  for i = 0, #seen / 8 - 1 do order[i + 1], time[i] = i, unpack('<I4', seen_times, 4 * i + 1) end
  table.sort(order, function(a, b)
    if time[a] ~= time[b] then return time[a] < time[b] end
    return a < b
  end)
  local gone, kept, kept_times = {}, {}, {}
  for i = 1, excess do gone[order[i]] = true end
  for i = 0, #seen / 8 - 1 do
    if not gone[i] then
      kept[#kept + 1], kept_times[#kept_times + 1] = sub(seen, 8 * i + 1, 8 * i + 8), pack('<I4', time[i])
    end
  end
  seen, seen_times, flags = table.concat(kept), table.concat(kept_times), EVICTED
end

-- Counters: sorted by (day, type), day 0 since ever; only the newest 32 days.
local function count(on_day)
  local i, last = 0, #counters / 12
  while i < last do
    local other_type, other_day, value = unpack('<I4i4I4', counters, 12 * i + 1)
    if other_day == on_day and other_type == type_hash then
      local more = pack('<I4i4I4', type_hash, on_day, math.min(value + 1, MAX_COUNT))
      counters = sub(counters, 1, 12 * i) .. more .. sub(counters, 12 * i + 13)
      return
    end
    if other_day > on_day or (other_day == on_day and other_type > type_hash) then break end
    i = i + 1
  end
  counters = insert(counters, 12, i, pack('<I4i4I4', type_hash, on_day, 1))
end
count(0)
count(day)
local newest = unpack('<i4', counters, #counters - 7)
local first, past = 0, 0 -- the records of days before the window follow those of day 0
while unpack('<i4', counters, 12 * first + 5) == 0 do first = first + 1 end
past = first
while unpack('<i4', counters, 12 * past + 5) <= newest - COUNTER_DAYS do past = past + 1 end
counters = sub(counters, 1, 12 * first) .. sub(counters, 12 * past + 1)

-- Nothing was written so far. XADD comes first: of the writes it is the one that can fail (memory, a key of another type).
redis.call('XADD', KEYS[2], '*', 'event', ARGV[8])
if #KEYS > 2 then
  redis.call('HSET', KEYS[4], event_id, digest)
  redis.call('PEXPIRE', KEYS[4], ARGV[11])
end
local header = pack('<BBHI4I4I4I4I4', VERSION, flags, 0, #times / 8, #seen / 8, #counters / 12, #ids, #features)
redis.call('SET', KEYS[1], header .. load_tag .. times .. hashes .. seen .. seen_times .. types .. counters .. lengths
  .. ids .. features)
return 'accepted'
