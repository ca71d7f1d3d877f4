-- Whether the account's sending is halted: by what the API answered (then one job, the canary, tries
-- again from time to time, and jobs in doubt are probed on), or by a person (then nothing is sent).

-- When the API's halt is over the hash stays for a while: it tells when the trouble was (`since`, `ended`),
-- whether it was an outage, and of which code. Trouble that comes back soon has never been over.

local REMEMBERED_MS = 3600000

-- `more`: since (now, if it is not told), outage ("1"), job (whose answer it was).
local function halt_account(by, code, message, worker, first_ms, canary_ms, now, more)
  local before = fields(K.account, 'code', 'outage', 'since', 'ended')
  local since = more.since or now
  if before.ended and now - tonumber(before.ended) < 10 * canary_ms
      and (before.code == code or before.outage and more.outage) then
    since = tonumber(before.since)
  end
  redis.call('DEL', K.account)
  redis.call('HSET', K.account, 'state', 'halted', 'by', by, 'code', code, 'message', message,
    'worker', worker, 'since', int(since), 'halted', int(now), 'canary_due', int(now + first_ms))
  for _, name in ipairs({'job', 'outage'}) do
    if more[name] then redis.call('HSET', K.account, name, more[name]) end
  end
end

local function resume_account(by, now)
  if by == 'person' then
    redis.call('DEL', K.account)
    return
  end
  redis.call('HSET', K.account, 'state', 'running', 'ended', int(now))
  redis.call('HDEL', K.account, 'canary', 'canary_due')
  redis.call('PEXPIRE', K.account, REMEMBERED_MS)
end

-- Whether a time fell into the API's last outage.
local function was_out(from, till)
  local last = fields(K.account, 'outage', 'since', 'ended')
  return last.outage and tonumber(last.since) <= till and (tonumber(last.ended) or till) >= from
end

-- Who halted it for this job, "api" or "person"; nil if nobody did, or if the job is the canary.
local function halted_by(id)
  local account = fields(K.account, 'state', 'by', 'canary')
  return account.state == 'halted' and account.canary ~= id and account.by or nil
end

local function is_canary(id)
  local account = fields(K.account, 'state', 'canary')
  return account.state == 'halted' and account.canary == id
end
