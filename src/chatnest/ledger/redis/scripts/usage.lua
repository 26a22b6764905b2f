-- The states of limits: { 1, now, states }, or { DAYS, now } if it is another day on the server.

if off_days then return { DAYS, now } end
return states_into({ 1, now })
