-- Take the next turn at work that one worker does for all. Answers { 0, now, whether it is ours }.

local taken = call('SET', KEYS[2], '1', 'PX', int(), 'NX')
return { 0, now, taken and 1 or 0 }
