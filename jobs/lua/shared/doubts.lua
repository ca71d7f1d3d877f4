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

-- Another try may send twice, if an earlier one was accepted and its interval is over.
local function flag_duplicate(id)
  redis.call('HSET', K.job(id), 'dup', 1)
  count_duplicate(id, 1)
end

local function unflag_duplicate(id)
  if redis.call('HDEL', K.job(id), 'dup') == 1 then count_duplicate(id, -1) end
end

-- The last try certainly sent nothing: all is as it was before it. Gives doubt, asked and dup.
local function clear_doubt(id)
  local job = fields(K.job(id), 'kind', 'doubt_before', 'asked_before')
  if job.kind ~= 'late' and job.kind ~= 'resend' then
    redis.call('HDEL', K.job(id), 'doubt', 'asked')
    return nil
  end
  redis.call('HSET', K.job(id), 'doubt', job.doubt_before, 'asked', job.asked_before, 'kind', '')
  unflag_duplicate(id)
  return tonumber(job.doubt_before), tonumber(job.asked_before), nil
end
