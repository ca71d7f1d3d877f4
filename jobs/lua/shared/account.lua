-- Whether the account's sending is halted: by what the API answered (then one job, the canary, tries
-- again from time to time, and jobs in doubt are probed on), or by a person (then nothing is sent).

local function halt_account(by, code, message, worker, canary_ms, now)
  redis.call('DEL', K.account)
  redis.call('HSET', K.account, 'state', 'halted', 'by', by, 'code', code, 'message', message,
    'worker', worker, 'since', int(now), 'canary_due', int(now + canary_ms))
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
