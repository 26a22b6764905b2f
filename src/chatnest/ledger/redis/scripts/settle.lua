-- Charge a hold once; as settle in model.py. Answers { tokens, whether this call charged it, now }.

local id, charge, held, remember = text(), int(), int(), int()
local end_key = KEYS[4 * #accounts + 2]

local ended = call('GET', end_key)
if ended then return { tonumber(string.match(ended, '%d+')), 0, now } end

local home
for _, account in ipairs(accounts) do
  local lines = text()
  local part = part_of(account, id) or { state = '-', tokens = held, lines = lines }
  finish(account, part, charge, false)
  drop_part(account, id)
  home = home or part
end
call('SET', end_key, string.format('S %d', charge), 'PX', remember)
local record = {}
while read_args < #ARGV do record[#record + 1] = text() end
note(accounts[1], id, home, 'tokens', string.format('%d', charge), unpack(record))
return { charge, 1, now }
