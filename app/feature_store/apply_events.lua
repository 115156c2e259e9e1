-- Apply events of one user to the packed state and append them to the stream: all of them or nothing.
-- The format is models/contract/state.py's, and the result must equal `apply` of state_parts.py, event by event, byte for
-- byte.
--
-- KEYS  1 state  2 stream  3 ids before  4 ids now  5 ids after   all in one slot
-- ARGV  1 history limit  2 seen limit  3 ms the ids live, then for each event
--       1 time (i64, ms), item hash (u64), type hash (u32), 1 if it counts as seen (u8)  2 item id
--       3 the event as JSON  4 event id, or nothing  5 digest of its content
-- Returns for each event accepted, duplicate or conflict.
--
-- The state is taken apart and put together once for all events: that, and not what an event adds, is what takes time.
--
-- Lua's numbers are doubles: a 64-bit hash stays a byte string and is compared as two 32-bit halves (never with `<`
-- on strings, which follows the server's locale). Times in ms stay below 2^53.
local HEADER, VERSION, EVICTED = 32, 1, 1
local COUNTER_DAYS, DAY_MS, MAX_COUNT = 32, 86400000, 4294967295
local spread, pack, unpack, sub, floor = unpack, struct.pack, struct.unpack, string.sub, math.floor
local history_limit, seen_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local SORTED_BY, ITEM_ID, RECORD, EVENT_ID, DIGEST = 1, 2, 3, 4, 5

local num_events = (#ARGV - 3) / 5
local function given(event, what) return ARGV[3 + 5 * (event - 1) + what] end

-- Which events are new: not known to Redis, nor by an earlier event here.
local event_ids, known = {}, {}
for event = 1, num_events do event_ids[event] = given(event, EVENT_ID) end
for bucket = 3, 5 do
  for event, digest in pairs(redis.call('HMGET', KEYS[bucket], spread(event_ids))) do
    local id = event_ids[event]
    known[id] = known[id] or digest
  end
end
local replies, new, new_ids = {}, {}, {}
for event = 1, num_events do
  local id, digest = event_ids[event], given(event, DIGEST)
  if known[id] then
    replies[event] = known[id] == digest and 'duplicate' or 'conflict'
  else
    replies[event] = 'accepted'
    if id ~= '' then
      known[id] = digest
      new_ids[#new_ids + 1], new_ids[#new_ids + 2] = id, digest
    end
    local bytes = given(event, SORTED_BY)
    local time_low, time_high, low, high, type_hash, seen = unpack('<I4I4I4I4I4B', bytes)
    new[#new + 1] = {
      number = event, bytes = bytes, time_ms = time_high * 4294967296 + time_low, high = high, low = low,
      type_hash = type_hash, seen = seen == 1, item_id = given(event, ITEM_ID),
    }
  end
end
if #new == 0 then return replies end

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

-- The string `column` of records of `size` bytes with new ones: `records[i]` in front of the record `places[i]`, counted
-- from 0, or in place of it where `replaces[i]`. The places ascend.
local function weave(column, size, places, records, replaces)
  local parts, at = {}, 0
  for i, place in ipairs(places) do
    parts[2 * i - 1], parts[2 * i] = sub(column, size * at + 1, size * place), records[i]
    at = replaces and replaces[i] and place + 1 or place
  end
  parts[#parts + 1] = sub(column, size * at + 1)
  return table.concat(parts)
end

-- How many of `count` sorted records are to stand before another, by bisection.
local function bisect(count, comes_before)
  local low, high = 0, count
  while low < high do
    local middle = floor((low + high) / 2)
    if comes_before(middle) then low = middle + 1 else high = middle end
  end
  return low
end

-- History: sorted by (time, hash, type), the new ones after those that are equal.
local sorted = {}
for i, event in ipairs(new) do sorted[i] = event end
table.sort(sorted, function(a, b)
  if a.time_ms ~= b.time_ms then return a.time_ms < b.time_ms end
  if a.high ~= b.high then return a.high < b.high end
  if a.low ~= b.low then return a.low < b.low end
  if a.type_hash ~= b.type_hash then return a.type_hash < b.type_hash end
  return a.number < b.number
end)
local num_old = #times / 8
local places, new_times, new_hashes, new_types, new_lengths, new_item_ids = {}, {}, {}, {}, {}, {}
for i, event in ipairs(sorted) do
  places[i] = bisect(num_old, function(other)
    local low, high = unpack('<I4I4', times, 8 * other + 1)
    local time_ms = high * 4294967296 + low
    if time_ms ~= event.time_ms then return time_ms < event.time_ms end
    low, high = unpack('<I4I4', hashes, 8 * other + 1)
    if high ~= event.high then return high < event.high end
    if low ~= event.low then return low < event.low end
    return unpack('<I4', types, 4 * other + 1) <= event.type_hash
  end)
  new_times[i], new_hashes[i], new_types[i] = sub(event.bytes, 1, 8), sub(event.bytes, 9, 16), sub(event.bytes, 17, 20)
  new_lengths[i], new_item_ids[i] = pack('<H', #event.item_id), event.item_id
end
local id_places, at, id_at = {}, num_old, #ids -- from the end, where new events mostly belong
for i = #sorted, 1, -1 do
  while at > places[i] do
    at = at - 1
    id_at = id_at - unpack('<H', lengths, 2 * at + 1)
  end
  id_places[i] = id_at
end
times, hashes = weave(times, 8, places, new_times), weave(hashes, 8, places, new_hashes)
types, lengths = weave(types, 4, places, new_types), weave(lengths, 2, places, new_lengths)
ids = weave(ids, 1, id_places, new_item_ids)
local dropped, dropped_bytes = math.max(num_old + #new - history_limit, 0), 0
for i = 0, dropped - 1 do dropped_bytes = dropped_bytes + unpack('<H', lengths, 2 * i + 1) end
times, hashes, types = sub(times, 8 * dropped + 1), sub(hashes, 8 * dropped + 1), sub(types, 4 * dropped + 1)
lengths, ids = sub(lengths, 2 * dropped + 1), sub(ids, dropped_bytes + 1)

-- Seen: sorted by hash, each with the last time.
local items, by_hash = {}, {}
for _, event in ipairs(sorted) do -- by time: the last one counts
  if event.seen then
    local hash = sub(event.bytes, 9, 16)
    local item = by_hash[hash] or {hash = hash, high = event.high, low = event.low}
    if not by_hash[hash] then items[#items + 1], by_hash[hash] = item, item end
    item.time_s = floor(event.time_ms / 1000)
  end
end
table.sort(items, function(a, b) return a.high < b.high or (a.high == b.high and a.low < b.low) end)
local seen_places, new_seen, new_seen_times, replaces = {}, {}, {}, {}
for i, item in ipairs(items) do
  local place = bisect(#seen / 8, function(other)
    local low, high = unpack('<I4I4', seen, 8 * other + 1)
    return high < item.high or (high == item.high and low < item.low)
  end)
  local last = item.time_s
  replaces[i] = sub(seen, 8 * place + 1, 8 * place + 8) == item.hash
  if replaces[i] then last = math.max(last, (unpack('<I4', seen_times, 4 * place + 1))) end
  seen_places[i], new_seen[i], new_seen_times[i] = place, item.hash, pack('<I4', last)
end
seen, seen_times = weave(seen, 8, seen_places, new_seen, replaces), weave(seen_times, 4, seen_places, new_seen_times, replaces)

-- Of too many those seen longest ago go, of equal times the smaller hashes.
local num_seen = #seen / 8
local excess = num_seen - seen_limit
if excess > 0 then
  local gone = {}
  if excess == 1 then
    local oldest, oldest_i = math.huge, 0
    for i = 0, num_seen - 1 do
      local time = unpack('<I4', seen_times, 4 * i + 1)
      if time < oldest then oldest, oldest_i = time, i end
    end
    gone[1] = oldest_i
  else
    local ages = {} -- (time, place) as one number below 2^53: sorting numbers needs no function of ours
    for i = 0, num_seen - 1 do ages[i + 1] = unpack('<I4', seen_times, 4 * i + 1) * 2097152 + i end
    table.sort(ages)
    for i = 1, excess do gone[i] = ages[i] % 2097152 end
    table.sort(gone)
  end
  local nothing, all = {}, {}
  for i = 1, excess do nothing[i], all[i] = '', true end
  seen, seen_times, flags = weave(seen, 8, gone, nothing, all), weave(seen_times, 4, gone, nothing, all), EVICTED
end

-- Counters: sorted by (day, type), day 0 since ever; only the newest 32 days.
local function count(type_hash, on_day, more)
  local i, last = 0, #counters / 12
  while i < last do
    local other_type, other_day, value = unpack('<I4i4I4', counters, 12 * i + 1)
    if other_day == on_day and other_type == type_hash then
      local sum = pack('<I4i4I4', type_hash, on_day, math.min(value + more, MAX_COUNT))
      counters = sub(counters, 1, 12 * i) .. sum .. sub(counters, 12 * i + 13)
      return
    end
    if other_day > on_day or (other_day == on_day and other_type > type_hash) then break end
    i = i + 1
  end
  counters = sub(counters, 1, 12 * i) .. pack('<I4i4I4', type_hash, on_day, more) .. sub(counters, 12 * i + 1)
end
local on_days = {} -- day -> type -> how many
for _, event in ipairs(new) do
  for _, day in ipairs({0, floor(event.time_ms / DAY_MS)}) do
    local of_day = on_days[day] or {}
    on_days[day], of_day[event.type_hash] = of_day, (of_day[event.type_hash] or 0) + 1
  end
end
for day, of_day in pairs(on_days) do
  for type_hash, more in pairs(of_day) do count(type_hash, day, more) end
end
local newest = unpack('<i4', counters, #counters - 7)
local first, past = 0, 0 -- the records of days before the window follow those of day 0
while unpack('<i4', counters, 12 * first + 5) == 0 do first = first + 1 end
past = first
while unpack('<i4', counters, 12 * past + 5) <= newest - COUNTER_DAYS do past = past + 1 end
counters = sub(counters, 1, 12 * first) .. sub(counters, 12 * past + 1)

-- Nothing was written so far. XADD comes first: of the writes it is the one that can fail (memory, a key of another
-- type), and only the first of a script's writes can.
for _, event in ipairs(new) do redis.call('XADD', KEYS[2], '*', 'event', given(event.number, RECORD)) end
if #new_ids > 0 then
  redis.call('HSET', KEYS[4], spread(new_ids))
  redis.call('PEXPIRE', KEYS[4], ARGV[3])
end
local header = pack('<BBHI4I4I4I4I4', VERSION, flags, 0, #times / 8, #seen / 8, #counters / 12, #ids, #features)
redis.call('SET', KEYS[1], header .. load_tag .. times .. hashes .. seen .. seen_times .. types .. counters .. lengths
  .. ids .. features)
return replies
