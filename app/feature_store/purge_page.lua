-- Delete one user's entries from one page of a stream.
--
-- KEYS  1 stream   ARGV  1 first id  2 last id  3 entries a page  4 user
-- Returns {the last id looked at, or '' at the end, entries deleted}.
local page = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local deleted = 0
for _, entry in ipairs(page) do
  if cjson.decode(entry[2][2]).user == ARGV[4] then
    deleted = deleted + redis.call('XDEL', KEYS[1], entry[1])
  end
end
if #page < tonumber(ARGV[3]) then return {'', deleted} end
return {page[#page][1], deleted}
