-- Count a call that got no usable answer. When many come in a row with no code sent and no refusal
-- (`Account.heard`) between them, the API is out: halt the account's sending, so that no job spends its attempts on an outage.
-- ARGV: code, message, misses that make an outage, canary_ms
-- Reply: "halted now" if this call halted the sending, "halted" if it was before, else "going on"
-- Twice: one miss is counted twice, no more.
if redis.call('HGET', K.account, 'state') == 'halted' then return 'halted' end
local now = now_ms()
local totals = redis.call('HMGET', K.totals, 'sent', 'sent_inferred')
local sent = (tonumber(totals[1]) or 0) + (tonumber(totals[2]) or 0)
local seen = redis.call('HMGET', K.misses, 'sent', 'misses')
local misses = tonumber(seen[1]) == sent and tonumber(seen[2]) + 1 or 1
redis.call('HSET', K.misses, 'sent', sent, 'misses', misses)
redis.call('PEXPIRE', K.misses, 600000)
if misses < tonumber(ARGV[3]) then return 'going on' end
redis.call('DEL', K.misses, K.account)
redis.call('HSET', K.account, 'state', 'halted', 'by', 'api', 'code', ARGV[1], 'message', ARGV[2],
  'since', int(now), 'canary_due', int(now + tonumber(ARGV[4])))
return 'halted now'
