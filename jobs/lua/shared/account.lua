-- Whether the account's sending is halted: by what the API answered (then one job, the canary, tries
-- again from time to time, and jobs in doubt are probed on), or by a person (then nothing is sent).

-- When the API's halt is over the hash stays for a while: it holds when the trouble was (`since`, `ended`),
-- whether it was an outage, and of which code. Trouble that comes back soon has never been over.

local REMEMBERED_MS = 3600000

-- `more`: since (now, if it is not given), outage ("1"), job (whose answer it was), refused ("1": no worker
-- is left whose credentials, address or clock the API does not refuse).
local function halt_account(by, code, message, worker, first_ms, more)
  local before = fields(K.account, 'code', 'outage', 'since', 'ended')
  local since = more.since or NOW
  if before.ended and NOW - tonumber(before.ended) < 10 * CANARY_MS
      and (before.code == code or before.outage and more.outage) then
    since = tonumber(before.since)
  end
  redis.call('DEL', K.account)
  redis.call('HSET', K.account, 'state', 'halted', 'by', by, 'code', code, 'message', message,
    'worker', worker, 'since', int(since), 'halted', int(NOW), 'canary_due', int(NOW + first_ms))
  for _, name in ipairs({'job', 'outage', 'refused'}) do
    if more[name] then redis.call('HSET', K.account, name, more[name]) end
  end
end

local function end_halt()
  redis.call('HSET', K.account, 'state', 'running', 'ended', int(NOW))
  redis.call('HDEL', K.account, 'canary', 'canary_due', 'refused')
  redis.call('PEXPIRE', K.account, REMEMBERED_MS)
end

local function resume_account(by)
  if by == 'person' or redis.call('HGET', K.account, 'refused') then redis.call('DEL', K.refused) end
  if by == 'person' then redis.call('DEL', K.account) else end_halt() end
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

-- What the API refuses of single workers: the credentials of all that hold the same (`key`), or where and
-- how one of them runs (`worker`). An entry of K.workers is "name/process.fingerprint of its credentials";
-- of a worker that sends no codes it is "name/process.why", see `sends_nothing` in jobs/account.py.

local function can_send(entry)
  return not string.find(entry, '/%x+%.%l*[g-z]%l*$')
end

-- What is refused of a worker, as JSON; nil if nothing is.
local function refusal_of(entry)
  local key = string.match(entry, '%.(%x+)$') or ''
  local found = redis.call('HMGET', K.refused, 'key:' .. key, 'worker:' .. entry)
  return found[1] or found[2] or nil
end

-- Have a worker stand down, of which something is refused, if others go on; else all sending is halted.
-- Reply: "stood down" | "halted now" | "halted"
local function stand_down(entry, job)
  redis.call('PEXPIRE', K.refused, DAY_MS)
  local account = fields(K.account, 'state', 'refused')
  local workers = redis.call('HGETALL', K.workers)
  for i = 1, #workers, 2 do
    local is_alive = (tonumber(workers[i + 1]) or 0) > NOW - ALIVE_MS
    if is_alive and can_send(workers[i]) and not refusal_of(workers[i]) then
      return account.state == 'halted' and 'halted' or 'stood down'
    end
  end
  if account.state == 'halted' then return 'halted' end
  local since = NOW
  for _, each in ipairs(redis.call('HVALS', K.refused)) do
    since = math.min(since, cjson.decode(each).since)
  end
  local why = cjson.decode(refusal_of(entry))
  halt_account('api', why.code, why.message, why.worker, CANARY_MS / 10,
    {since = since, refused = 1, job = job})
  return 'halted now'
end
