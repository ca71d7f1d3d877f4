-- The API answered a job that the account may not send. Decide whom that concerns: all, and the sending
-- is halted; this worker, which then stands down; or, where others are sent all the time, this job alone.
-- concerns: "" | "key" | "worker", see K.refused; entry: of the worker
-- Reply: "halted now" by this call | "halted" before | "stood down" | "suspect" (others were sent since
--   it was refused, or such answers were single jobs' before) | "alone" (that happened again and again)
-- Twice with the same try: the same reply, nothing is counted twice.
local A = arguments('id', 'tries', 'code', 'message', 'worker', 'concerns', 'entry')
local id, code = A.id, A.code
local SUSPECT, ALONE, IN_A_ROW = 2, 3, 3
local sent = codes_sent()
-- of the job's hash: how often it was refused with codes sent to others in between, and how many had been
-- sent the last time; which try that was, and what was decided
local job = fields(K.job(id), 'barred', 'barred_at', 'barred_try', 'barred_as')
if job.barred_try == A.tries then return job.barred_as end
local barred = tonumber(job.barred) or 0
if not job.barred_at or sent > tonumber(job.barred_at) then barred = barred + 1 end

local function decide()
  local account = fields(K.account, 'state', 'code')
  if account.state == 'halted' then return 'halted' end
  if barred < SUSPECT and A.concerns ~= '' then
    local mark = A.concerns == 'key' and 'key:' .. (string.match(A.entry, '%.(%x+)$') or '')
      or 'worker:' .. A.entry
    redis.call('HSETNX', K.refused, mark, cjson.encode(
      {code = code, message = A.message, worker = A.worker, since = NOW}))
    return stand_down(A.entry, id)
  end
  -- how many such answers came with no code sent in between
  local before = fields(K.misses, 'refused_at', 'refusals')
  local refusals = tonumber(before.refused_at) == sent and tonumber(before.refusals) + 1 or 1
  redis.call('HSET', K.misses, 'refused_at', sent, 'refusals', refusals)
  redis.call('PEXPIRE', K.misses, 600000)
  local is_suspect = barred >= SUSPECT or A.concerns == '' and account.code == code
  if not is_suspect or refusals >= IN_A_ROW then
    -- another job finds out soon whether it was this one
    halt_account('api', code, A.message, A.worker, CANARY_MS / 10, {job = id})
    return 'halted now'
  end
  return barred >= ALONE and 'alone' or 'suspect'
end

local decided = decide()
redis.call('HSET', K.job(id), 'barred', barred, 'barred_at', sent, 'barred_try', A.tries,
  'barred_as', decided)
return decided
