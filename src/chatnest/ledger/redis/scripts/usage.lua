-- How limits stand: { 1, now, states }, or { DAYS, now }.

if off_days then return { DAYS, now } end
return states_into({ 1, now })
