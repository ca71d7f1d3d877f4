-- Count a call that got no usable answer. When many come in a row with no code sent and no refusal
-- (`Account.heard`) between them, the API is out: halt the account's sending, so that no job spends its
-- attempts on an outage.
-- ARGV: code, message, misses that make an outage, worker, canary_ms
-- Reply: "halted now" if this call halted the sending, "halted" if it was before, else "going on"
-- Twice: one miss is counted twice, no more.
if redis.call('HGET', K.account, 'state') == 'halted' then return 'halted' end
local totals = fields(K.totals, 'sent', 'sent_inferred')
local sent = (tonumber(totals.sent) or 0) + (tonumber(totals.sent_inferred) or 0)
local seen = fields(K.misses, 'sent', 'misses')
local misses = tonumber(seen.sent) == sent and tonumber(seen.misses) + 1 or 1
redis.call('HSET', K.misses, 'sent', sent, 'misses', misses)
redis.call('PEXPIRE', K.misses, 600000)
if misses < tonumber(ARGV[3]) then return 'going on' end
redis.call('DEL', K.misses)
halt_account('api', ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]), now_ms())
return 'halted now'
