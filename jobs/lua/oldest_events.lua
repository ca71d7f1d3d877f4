-- Find the oldest of the events that have not ended, whatever they wait for, by the code of their last
-- answer. Of a person's requeue on one counts as asked for anew. It changes nothing.
-- limit: events looked at in one call; place, skip: where the call before ended, at first '-inf' and 0: a
--   score of due:event, and how many with it were looked at; an event that is worked on moves on
-- Reply: place and skip of the next call (place '' if there is none), code ('' before any answer), when
--   the oldest with it was asked for, ms, code, …
local A = arguments('limit:number', 'place', 'skip:number')
local found = redis.call('ZRANGEBYSCORE', K.due('event'), A.place, '+inf', 'WITHSCORES', 'LIMIT', A.skip,
  A.limit)
local oldest, place, skip = {}, A.place, A.skip
for i = 1, #found, 2 do
  if found[i + 1] ~= place then place, skip = found[i + 1], 0 end
  skip = skip + 1
  local job = redis.pcall('HMGET', K.job(found[i]), 'code', 'created', 'requeued')
  local asked = not job.err and tonumber(job[3] or job[2]) -- a sweep sees to records that are broken
  local code = job[1] or ''
  if asked and asked < (oldest[code] or math.huge) then oldest[code] = asked end
end
local reply = {#found < 2 * A.limit and '' or place, skip}
for code, asked in pairs(oldest) do
  reply[#reply + 1] = code
  reply[#reply + 1] = int(asked)
end
return reply
