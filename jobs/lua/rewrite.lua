-- Find out whether the append-only file is to be rewritten now, by the caller. What has expired is
-- gone from the disk then.
-- every_ms: milliseconds between two times, of all workers together; the first is that long after the
--   first call
-- Reply: {1} it is, and the next time is that much later; {0}
local A = arguments('every_ms:number')
local last = tonumber(redis.call('HGET', K.sweeps, 'rewritten'))
local is_due = last and NOW - last >= A.every_ms
if is_due or not last then redis.call('HSET', K.sweeps, 'rewritten', int(NOW)) end
return {is_due and 1 or 0}
