-- The API refused a request as one too many: slow the whole fleet, and be quiet for a window.
-- Refusals that come together count once.
-- Reply: the rate's factor now (times 1000), or -1 if this refusal came with an earlier one
local LESS = 0.8           -- of the rate that was, after a refusal
local SLOWEST = 0.25       -- of the limit, after repeated refusals
local A = arguments('window_us:number')
local window, now = A.window_us, now_us()
local pace = fields(K.pace, 'factor', 'factor_at_us', 'next_us', 'asked_us')
redis.call('HINCRBY', K.pace, 'refused', 1)
local at = tonumber(pace.factor_at_us) or 0
if now >= at and now - at < window then return -1 end
local factor = math.max(SLOWEST, recovered(tonumber(pace.factor) or 1, now - at) * LESS)
redis.call('HSET', K.pace, 'factor', tostring(factor), 'factor_at_us', int(now),
  'refused_at_us', int(now), 'caution_us', 60000,
  'next_us', int(math.max(tonumber(pace.next_us) or 0, now + window)),
  'asked_us', int(math.max(tonumber(pace.asked_us) or 0, now))) -- the clock that next_us is a time of
return math.floor(factor * 1000)
