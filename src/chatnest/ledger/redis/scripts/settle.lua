-- Charge a hold once; as settle in model.py. Answers { tokens, whether this call charged it, now,
-- money }, or also the thresholds that were reached.

local id, remember = text(), int()
local cost = { tokens = int(), money = int() }
local held_tokens, held_money = int(), int()
local names, figures = text(), {} -- of the row of usage; no names if another part counts it
for i = 1, int() do figures[i] = int() end
local end_key = KEYS[4 * #accounts + 2]

local ended = call('GET', end_key)
if ended then
  local tokens, money = string.match(ended, '^%a (%d+) ?(%d*)$')
  return { tonumber(tokens), 0, now, tonumber(money) or 0 }
end

read_bucket_keys()
local home
for _, account in ipairs(accounts) do
  local lines, ends = text(), {}
  for _ = 1, int() do
    local field = text()
    ends[field] = int()
  end
  local part = part_of(account, id)
    or { state = '-', tokens = held_tokens, money = held_money, output = 0, kept = 0, lines = lines }
  part.ends = ends
  finish(account, part, cost, 'settled')
  look(account, part.lines, keep)
  drop_part(account, id)
  home = home or part
end
call('SET', end_key, string.format('S %d %d', cost.tokens, cost.money), 'PX', remember)
if names ~= '' then spend(today, names, figures) end
local record = { 'counted', names ~= '' and '1' or '0' }
while read_args < #ARGV do record[#record + 1] = text() end
note(accounts[1], id, home, 'tokens', string.format('%d', cost.tokens),
  'money', string.format('%d', cost.money), unpack(record))
if crossed > 0 then return { cost.tokens, 1, now, cost.money, crossed } end
return { cost.tokens, 1, now, cost.money }
