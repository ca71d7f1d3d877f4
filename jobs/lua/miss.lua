-- Count a call that got no usable answer. When many come in a row with no code sent and no refusal
-- (`Account.clear_misses`) between them, the API is out: halt the account's sending, so that no job spends
-- its attempts on an outage.
-- outage: misses that make one
-- Reply: "halted now" if this call halted the sending, "halted" if it was before, else "going on"
-- Twice: one miss is counted twice, no more.
local A = arguments('code', 'message', 'outage:number', 'worker')
if redis.call('HGET', K.account, 'state') == 'halted' then return 'halted' end
local sent = codes_sent()
local before = fields(K.misses, 'sent', 'misses', 'from')
local is_next = tonumber(before.sent) == sent
local misses = is_next and tonumber(before.misses) + 1 or 1
local from = is_next and tonumber(before.from or NOW) or NOW
redis.call('HSET', K.misses, 'sent', sent, 'misses', misses, 'from', int(from))
redis.call('PEXPIRE', K.misses, 600000)
if misses < A.outage then return 'going on' end
redis.call('DEL', K.misses)
halt_account('api', A.code, A.message, A.worker, CANARY_MS,
  {since = from, outage = 1})
return 'halted now'
