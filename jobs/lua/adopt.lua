-- Until an upgrade is over: seal a job's number that an older release left in the clear, and take over what
-- is remembered of the number under its old key (jobs/records.py).
-- old: the number's digest by which older releases named its keys
-- num: what stands for the number from now on, "": it is sealed already; term: see shared/jobs.lua, or ""
-- Reply: 1, or 0 if the job is gone, or for another number by now
-- Twice: the second finds nothing to do.
local A = arguments('id', 'old', 'num', 'term')
local job = fields(K.job(A.id), 'cc', 'num')
if not job.num then return 0 end
if string.find(job.num, '^%d+$') then
  if A.num == '' or number_digest(job.cc, job.num) ~= A.old then return 0 end
  redis.call('HSET', K.job(A.id), 'num', A.num)
  if A.term ~= '' then redis.call('HSET', K.job(A.id), 'term', A.term) end
  job.num = A.num
end

local function later(a, b)
  return math.max(tonumber(a or 0), tonumber(b or 0))
end

local digest = number_digest(job.cc, job.num)
local from, to = K.number(A.old), K.number(digest)
if redis.call('EXISTS', from) == 1 and redis.call('EXISTS', to) == 0 then
  redis.call('RENAME', from, to)
elseif redis.call('EXISTS', from) == 1 then
  local was = fields(from, 'job', 'until', 'codes', 'sent', 'lost_until', 'again')
  local is = fields(to, 'until', 'codes', 'sent', 'lost_until')
  local ttl = later(redis.call('PTTL', from), redis.call('PTTL', to))
  if was.codes then
    redis.call('HSET', to, 'codes', int((tonumber(is.codes) or 0) + tonumber(was.codes)),
      'sent', int(later(was.sent, is.sent)))
  end
  if was.lost_until then redis.call('HSET', to, 'lost_until', int(later(was.lost_until, is.lost_until))) end
  if was.job and later(was['until'], is['until']) > later(is['until']) then
    redis.call('HSET', to, 'job', was.job, 'until', was['until'])
  end
  if was.again then redis.call('HSETNX', to, 'again', was.again) end
  redis.call('DEL', from)
  if ttl > 0 then redis.call('PEXPIRE', to, int(ttl)) end
end
if redis.call('EXISTS', K.asked(A.old)) == 1 then
  if redis.call('EXISTS', K.asked(digest)) == 0 then
    redis.call('RENAME', K.asked(A.old), K.asked(digest))
  else
    redis.call('DEL', K.asked(A.old))
  end
end
return 1
