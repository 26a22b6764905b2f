-- Correct a counter, once for each id. The key after the account's keys records the adjustment of
-- that id as 'AMOUNT AT FIELD REASON'. Answers { whether this call made it, now, the record, the
-- counter }, or { 2, now, '', the sum of before } for a sum above `most`.

local id, field, amount, reason, ends, remember, most =
  text(), text(), int(), text(), int(), int(), int()
local account, done_key, grants_key = accounts[1], KEYS[6], KEYS[7]

local done = call('GET', done_key)
local first = not done
if first then
  local c = counter(account, field)
  if math.abs(c.adjusted + amount) > most then
    return { 2, now, '', string.format('%d', c.adjusted) }
  end
  if ends > 0 then
    if is_empty(c) then c.ends = ends end
  else
    call('HSETNX', account.counters, '!ever', '1') -- a grant
    account.grants = grants_key
    c.ends = c.ends + 1
  end
  c.adjusted = c.adjusted + amount
  write(account, field, c)
  local all, words = call('HGETALL', account.counters), ''
  for i = 1, #all, 2 do
    local word = string.match(all[i + 1], '^%d+ %d+ %d+ (!.*)$')
    if word and string.match(all[i], '^[^:]*:') == string.match(field, '^[^:]*:') then
      words = words .. ' ' .. word
    end
  end
  look(account, words, keep)
  live_counters(account, math.max(0, ends - now) + keep)
  note(account, id, { tokens = 0, money = 0 }, 'tokens', string.format('%d', amount), 'source', 'none',
    'outcome', 'adjusted', 'reason', reason, 'lines', 'T=' .. field)
  done = string.format('%d %d %s %s', amount, now, field, reason)
  if ends > 0 then
    call('SET', done_key, done, 'PX', remember)
  else
    call('SET', done_key, done) -- a grant does not expire, and neither does its id
  end
end
field = string.match(done, '^%S+ %S+ (%S+)')
return { first and 1 or 0, now, done, call('HGET', account.counters, field) or '0 0 0 0' }
