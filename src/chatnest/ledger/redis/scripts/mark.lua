-- The beginning of every operation. The first key is the mark of the books (mark.py), which must be
-- the one that the worker knows; otherwise the answer is { -1, the mark }. Without a mark the books
-- are gone: the script records that, so that a worker that starts later does not begin new books in
-- the empty store. Amounts are integers, times are milliseconds.

local call = redis.call

local read_args = 0
local function text()
  read_args = read_args + 1
  return ARGV[read_args]
end
local function int()
  return tonumber(text())
end

local function clock(given) -- empty except in tests
  if given ~= '' then return tonumber(given) end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local expected = text()
local now = clock(text())
local mark = call('GET', KEYS[1])
if mark ~= expected then
  if not mark then
    local schema, word = string.match(expected, '^(%d+) (%S+)')
    call('SET', KEYS[1], string.format('%s lost %d %s', schema, now, word))
  end
  return { -1, mark or '' }
end
