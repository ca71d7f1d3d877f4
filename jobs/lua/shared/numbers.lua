-- A phone number's record: which job uses it, until when it is closed to others, and its codes.

-- What stands for a number in keys. `num` is INDEX:ENVELOPE (jobs/vault.py), of which the envelope may be
-- left out; or the digits, of a record of before (jobs/upgrade.py).
local function number_digest(cc, num)
  return string.match(num, '^([^:]+):') or redis.sha1hex(cc .. '-' .. num)
end

local function number_key(cc, num)
  return K.number(number_digest(cc, num))
end

-- Close a number to other jobs until a time. Its record may live longer: it also remembers the codes
-- sent (`codes`, `sent`).
local function close_number(cc, num, id, until_ms)
  local key = number_key(cc, num)
  redis.call('HSET', key, 'job', id, 'until', int(until_ms))
  local ttl = math.max(1, until_ms - NOW)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(ttl)) end
end

-- Until when another job has the number; nil if none has.
local function closed_until(cc, num, id)
  local closed = fields(number_key(cc, num), 'job', 'until')
  local until_ms = tonumber(closed['until'])
  return closed.job and closed.job ~= id and until_ms > NOW and until_ms or nil
end

local function open_number(cc, num, id)
  local key = number_key(cc, num)
  if redis.call('HGET', key, 'job') == id then redis.call('HDEL', key, 'job', 'until') end
end

-- Whether a job is left out by its batch's `skip_sent`: a code went to its number meanwhile. Numbers
-- that had one before were left out when the file was read, so any code counts; where a person has
-- put another number in a job's place, one that came after that.
local function was_sent_meanwhile(job, skip_sent)
  local sent = skip_sent == '1' and tonumber(redis.call('HGET', number_key(job.cc, job.num), 'sent'))
  return sent and (not job.replaces or sent >= tonumber(job.created))
end

-- Codes sent so far, to all numbers.
local function codes_sent()
  local totals = fields(K.totals, 'sent', 'sent_inferred')
  return (tonumber(totals.sent) or 0) + (tonumber(totals.sent_inferred) or 0)
end

local function note_code_sent(cc, num)
  local key = number_key(cc, num)
  redis.call('HINCRBY', key, 'codes', 1)
  redis.call('HSET', key, 'sent', int(NOW))
  redis.call('PEXPIRE', key, int(RETENTION_MS))
  local minute = math.floor(NOW / 60000)
  local hour = K.sent(int(math.floor(minute / 60)))
  if redis.call('HINCRBY', hour, int(minute % 60), 1) == 1 then
    redis.call('PEXPIRE', hour, 93600000) -- 26 hours: a day, from any zone's midnight
  end
end
