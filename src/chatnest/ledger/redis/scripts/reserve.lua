-- Hold under all limits, or under none; as reserve in model.py. A cost is fixed + per * output.
-- Answers { ADMITTED, now, output, admitted at, states }, { REFUSED, now, limit, milliseconds to wait
-- or -1, whether answers that are being written are the cause, state }, { ENDED, now }, or
-- { DAYS, now } if it is another day on the server.

local REFUSED, ADMITTED, ENDED = 0, 1, 2
local RETRY_HELD = 5000
local end_key = KEYS[#KEYS - 2]
local id, wanted, least, lease = text(), int(), int(), int()
local input, money_fixed, money_per, keeps_usage = int(), int(), int(), int()
local fixed = { T = input, M = money_fixed, Q = 1, S = 1 }
local per = { T = 1, M = money_per, Q = 0, S = 0 }

if off_days then return { DAYS, now } end
if call('EXISTS', end_key) == 1 then return { ENDED, now } end
local known = part_of(accounts[1], id)
if known then
  if known.state == 'X' then return { ENDED, now } end
  local answer = { ADMITTED, now, known.output, known.at }
  for _, limit in ipairs(limits) do
    local state = state_of(limit)
    if limit.kind == 'buckets' then
      local part = part_of(accounts[limit.index], id)
      local head = string.lower(limit.unit) .. '=' .. limit.name .. ':'
      for line in string.gmatch(part and part.lines or '', '%S+') do
        if string.sub(line, 1, #head) == head then
          state.serial = tonumber(string.match(line, ':(%d+)$'))
        end
      end
    end
    put_state(answer, state)
  end
  return answer
end

local refusal
local function refuse(i, wait, by_held)
  if not refusal or refusal.wait ~= NEVER and (wait == NEVER or wait > refusal.wait) then
    refusal = { limit = i, wait = wait, by_held = by_held }
  end
end

local states, output = {}, wanted
for i, limit in ipairs(limits) do
  local state = state_of(limit)
  states[i] = state
  local each = per[limit.unit]
  if limit.enforced and each > 0 then
    local left = limit.most + state.granted
    if limit.kind == 'budget' then left = left - state.used - state.held end
    output = math.min(output, math.floor((left - fixed[limit.unit]) / each))
  end
end
output = math.max(output, least)

for i, limit in ipairs(limits) do
  local state, on = states[i], limit.calendar
  local slides = limit.kind == 'rate' or limit.kind == 'buckets'
  local need = fixed[limit.unit] + per[limit.unit] * (slides and output or least)
  local most, used, held = limit.most + state.granted, state.used, state.held
  if need > 0 and used + held + need > most then
    if not limit.enforced then
      state.over = 1
    elseif need > most or on and on.window == 'lifetime' and used + need > most then
      refuse(i, NEVER, 0)
    elseif limit.kind == 'rate' then
      refuse(i, entry(limit.key, limit.left + used - limit.most) + limit.window - now, 0)
    elseif limit.kind == 'buckets' then
      local excess, serial = used + need - most, windows[limit.key].first
      local b
      while excess > 0 do
        b = bucket(limit.key, serial)
        excess, serial = excess - b.weight, serial + 1
      end
      refuse(i, b.last + limit.window - now, 0)
    elseif on and on.window ~= 'lifetime' then
      if used + need > most then
        refuse(i, on.resets - now, 0)
      else
        refuse(i, math.min(RETRY_HELD, on.resets - now), 1)
      end
    else
      refuse(i, RETRY_HELD, 1)
    end
  end
end
if refusal then
  local answer = { REFUSED, now, refusal.limit, refusal.wait, refusal.by_held }
  put_state(answer, states[refusal.limit])
  return answer
end

-- Drop days that are no longer kept, when a new day begins. The days of a lifetime are added up.
local function forget_days(limit)
  local counters = limit.account.counters
  local fields = call('HSCAN', counters, 0, 'COUNT', FIELDS_AT_ONCE)[2]
  for i = 1, #fields, 2 do
    local name, day = string.match(fields[i], '^(.*):(%d+%-%d%d%-%d%d)$')
    if day and day < limit.calendar.oldest and string.match(fields[i + 1], '^%d+ 0 ') then
      local ever = call('HGET', counters, name .. ':ever')
      if not call('HGET', counters, name .. ':late') or day < limit.calendar.long_ago then
        if ever then
          local sum, c = unpacked(ever), unpacked(fields[i + 1])
          for _, figure in ipairs({ 'settled', 'overrun', 'expired', 'adjusted' }) do
            sum[figure] = sum[figure] + c[figure]
          end
          sum.ends = EXACT
          write(limit.account, name .. ':ever', sum)
        end
        call('HDEL', counters, fields[i])
      end
    end
  end
end

-- If two limits share a counter or a window, the request counts once.
local part = {
  state = 'R', tokens = input + output, money = money_fixed + money_per * output, output = output,
  at = now,
}
local amounts = amounts_of(part)
local places, lines, fresh = {}, {}, {}
local function change(account, field, packed)
  local changed = account.changed
  changed[#changed + 1], changed[#changed + 2] = field, packed
end
for i in ipairs(accounts) do lines[i] = {} end
for _, limit in ipairs(limits) do
  local account, lives = limit.account, lease
  local on = limit.calendar
  if on then
    lives = on.window == 'day' and on.resets - now or 62 * DAY
    if on.window == 'lifetime' then
      call('HSETNX', account.counters, '!ever', '1')
      call('HSETNX', account.counters, limit.name .. ':ever', '0 0 0 0')
    end
  end
  if account then account.lives = math.max(account.lives or 0, lives + keep) end
end
for i, limit in ipairs(limits) do
  local amount = amounts[limit.unit]
  if not places[limit.place] then
    if limit.kind == 'rate' then
      places[limit.place] = -1
      call('ZADD', limit.key, now, id)
      live(limit.key, limit.window, MINUTE)
    elseif limit.kind == 'buckets' then
      local w = windows[limit.key]
      local last = w.first <= w.last and bucket(limit.key, w.last)
      if last and now - last.opened <= math.floor(limit.window / 60) then
        last.last, last.weight = now, last.weight + amount
      else
        if w.first <= w.last then w.last = w.last + 1 else w.first, w.last = now, now end
        last = { opened = now, last = now, weight = amount }
      end
      w.total = w.total + amount
      put_bucket(limit.key, w.last, last)
      put_head(limit.key, w)
      live(limit.key, limit.window, MINUTE)
      places[limit.place] = w.last
      table.insert(lines[limit.index], string.format('%s=%s:%d', string.lower(limit.unit),
        limit.name, w.last))
    else
      places[limit.place] = -1
      local on, account, c = limit.calendar, limit.account, counted[limit.place]
      if on then
        c.ends = is_empty(c) and on.stop or math.max(c.ends, on.stop)
        local late_field = limit.name .. ':late'
        local late = later(account.rows[late_field], on.today)
        if late then
          account.rows[late_field] = late
          change(account, late_field, late)
        end
        if c.fresh then fresh[#fresh + 1] = limit end
      end
      c.held = c.held + amount
      change(account, limit.field, packed_counter(c))
      table.insert(lines[limit.index], limit.unit .. '=' .. limit.field)
    end
  end
  local state = states[i]
  if limit.kind == 'rate' or limit.kind == 'buckets' then
    state.used, state.serial = state.used + amount, places[limit.place]
    if state.first < 0 then state.first = now end
  else
    state.held = state.held + amount
  end
end
for _, account in ipairs(accounts) do
  if #account.changed > 0 then call('HSET', account.counters, unpack(account.changed)) end
end
for _, limit in ipairs(fresh) do forget_days(limit) end
for _, watch in ipairs(plan.watches) do table.insert(lines[watch[1]], watch[2]) end
for i, account in ipairs(accounts) do
  part.lines, part.kept = table.concat(lines[i], ' '), i == 1 and keeps_usage or 0
  keep_part(account, id, part, now + lease, lease + keep)
  if account.lives then live_counters(account, account.lives) end
end

local answer = { ADMITTED, now, output, now }
for _, state in ipairs(states) do put_state(answer, state) end
return answer
