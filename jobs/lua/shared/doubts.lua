-- What is not known about a job: whether it was sent, and whether it was sent twice.

-- Whether a probe that is asked for now could still find out what became of an attempt in doubt;
-- `provable` is the number's interval less the longest way of the probe.
local function may_be_proved(doubt, provable, now)
  return doubt and tonumber(doubt) + provable > now
end

local function count_duplicate(id, by)
  redis.call('HINCRBY', K.totals, 'possible_duplicate', by)
  local batch = redis.call('HGET', K.job(id), 'batch')
  if batch then redis.call('HINCRBY', K.counts(batch), 'possible_duplicate', by) end
end

-- Another code may be the second one. `try`: the call that may send it; nil for a person's requeue.
local function flag_duplicate(id, try)
  if redis.call('HSETNX', K.job(id), 'dup', 1) == 0 then return end
  if try then redis.call('HSET', K.job(id), 'dup_by', try) end
  count_duplicate(id, 1)
end

-- The last try certainly sent nothing: all is as it was before it. Returns doubt, asked and resent.
local function clear_doubt(id)
  local job = fields(K.job(id), 'kind', 'doubt_before', 'asked_before', 'dup_by', 'tries')
  if job.dup_by == job.tries then
    redis.call('HDEL', K.job(id), 'dup', 'dup_by')
    count_duplicate(id, -1)
  end
  if job.kind ~= 'late' and job.kind ~= 'resend' then
    redis.call('HDEL', K.job(id), 'doubt', 'asked')
    return nil
  end
  redis.call('HSET', K.job(id), 'doubt', job.doubt_before, 'asked', job.asked_before, 'kind', '')
  redis.call('HDEL', K.job(id), 'resent')
  return tonumber(job.doubt_before), tonumber(job.asked_before), nil
end
