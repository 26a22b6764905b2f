-- Hold under all limits, or under none; as reserve in model.py.
-- Answers { ADMITTED, now, tokens, admitted at, states }, { REFUSED, now, limit, milliseconds to
-- wait, whether tokens or streams in use are the cause, state }, { ENDED, now }, or { DAYS, now } if
-- it is another day on the server.

local REFUSED, ADMITTED, ENDED = 0, 1, 2
local RETRY_HELD = 5000
local end_key = KEYS[4 * #accounts + 2]
local id, granted, least, lease = text(), int(), int(), int()

if off_days then return { DAYS, now } end
if call('EXISTS', end_key) == 1 then return { ENDED, now } end
local known = part_of(accounts[1], id)
if known then
  if known.state == 'X' then return { ENDED, now } end
  return states_into({ ADMITTED, now, known.tokens, known.at })
end

local refusal
local function refuse(i, wait, by_held, state)
  if not refusal or wait > refusal[4] then
    refusal = { REFUSED, now, i, wait, by_held, state[1], state[2], state[3] }
  end
end

local found = {}
for i, limit in ipairs(limits) do
  local state, left = state_of(limit) -- or the counter
  local used, held = state[1], state[2]
  found[i] = state
  if limit.kind == 'rate' then
    if limit.most < 1 then
      refuse(i, limit.window, 0, state)
    elseif used >= limit.most then
      refuse(i, entry(limit.key, left + used - limit.most) + limit.window - now, 0, state)
    end
  elseif limit.kind == 'budget' then
    granted = math.min(granted, limit.most - used - held)
    if used + least > limit.most then
      refuse(i, limit.stop - now, 0, state)
    elseif used + held + least > limit.most then
      refuse(i, RETRY_HELD, 1, state)
    end
  elseif held >= limit.most then
    refuse(i, RETRY_HELD, 1, state)
  end
end
if refusal then return refusal end

-- Drop days that are no longer kept, when a new day begins.
local function forget_days(limit)
  local fields = call('HSCAN', limit.account.counters, 0, 'COUNT', FIELDS_AT_ONCE)[2]
  for i = 1, #fields, 2 do
    local day = string.match(fields[i], ':(%d+%-%d%d%-%d%d)$')
    if day and day < limit.oldest and string.match(fields[i + 1], '^%d+ 0 ') then
      call('HDEL', limit.account.counters, fields[i])
    end
  end
end

-- If two limits share a counter or a window, the request counts once.
local places, lines = {}, {}
for i in ipairs(accounts) do lines[i] = {} end
for _, limit in ipairs(limits) do
  if not places[limit.place] then
    places[limit.place] = true
    if limit.kind == 'rate' then
      call('ZADD', limit.key, now, id)
      live(limit.key, limit.window, MINUTE)
    else
      local budget = limit.kind == 'budget'
      local account, c = limit.account, counted[limit.place]
      c.held = c.held + (budget and granted or 1)
      write(account, limit.field, c)
      account.lives = math.max(account.lives or 0, (budget and limit.stop - now or lease) + keep)
      table.insert(lines[limit.index], (budget and 'T=' or 'S=') .. limit.field)
      if budget and c.fresh then forget_days(limit) end
    end
  end
end
for i, account in ipairs(accounts) do
  local part = { state = 'R', tokens = granted, at = now, lines = table.concat(lines[i], ' ') }
  keep_part(account, id, part, now + lease, lease + keep)
  if account.lives then live(account.counters, account.lives) end
end

local answer = { ADMITTED, now, granted, now }
for i, limit in ipairs(limits) do
  local used, held, first = unpack(found[i])
  if limit.kind == 'rate' then
    used, first = used + 1, first < 0 and now or first
  else
    held = held + (limit.kind == 'budget' and granted or 1)
  end
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = used, held, first
end
return answer
