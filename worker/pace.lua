-- Reserve the next slot of the account's rate, on this server's clock (all times µs).
--
-- Two rules hold each slot back. Spacing: it comes a little less than window / rate after the one
-- before, so that nothing bursts and a late slot can be made up for. The window: slot n comes at
-- least one window after slot n - rate *arrived* at the API, at the latest that it can have. A
-- worker reports that with the attempt's outcome (note_arrival); until then the slot's own time
-- and a presumed delay stand for it.
--
-- A batch caller may not reserve further ahead than the horizon. It is told when to come back, in
-- a line of such turns, so that nobody polls and an event never stands behind sleeping callers.
--
-- ARGV: lane, turn ("1": the caller was told to come back now), more ("1": another caller of this
--   process waits and takes the next turn), per_window (slots), window_us, horizon_us
-- Reply: {"slot", wait_us, slot number, slot µs, µs until the next turn or -1}
--      | {"turn", µs until the caller's turn}
-- Twice: a slot is lost, no more.
local lane, turn, more = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local per_window, window, horizon = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local SPACING = 0.95       -- of window / rate: how quickly lateness is made up for
local PRESUMED = 20000     -- a request not yet reported arrived this much after its slot at most
local SLOWEST = 0.25       -- of the rate, after repeated refusals
local RECOVERY_US = 60e6   -- from the slowest back to the full rate
local FAR = 120e6          -- a reservation further ahead than this means that the clock jumped

local now = now_us()
local p = redis.call('HMGET', K.pace, 'next_us', 'line_us', 'slot', 'per_window', 'factor',
  'factor_at_us')
local next_us, line, number = tonumber(p[1]), tonumber(p[2]), tonumber(p[3]) or 0

-- Unknown history (first use, a failover that lost it, a clock that jumped back, another rate):
-- stay silent for one window, so that whatever was granted before cannot add to what comes.
if not next_us or next_us > now + FAR or tonumber(p[4]) ~= per_window then
  next_us, line = now + window, 0
  redis.call('DEL', K.ring)
  redis.call('HSET', K.pace, 'per_window', per_window, 'since_us', int(now))
end

-- After refusals the whole fleet is slower for a while.
local factor = tonumber(p[5]) or 1
if factor < 1 then
  factor = math.min(1, factor + (now - tonumber(p[6])) / RECOVERY_US)
  window = window / factor
end
local spacing = window / per_window

local slot = math.max(now, next_us)
local oldest = redis.call('HGET', K.ring, number % per_window)
if oldest then
  slot = math.max(slot, tonumber(string.match(oldest, ':(%d+)$')) + window)
end

if lane == 'batch' then
  local mine = turn and slot or math.max(slot, line or 0)
  if mine - now > horizon then
    if not turn then redis.call('HSET', K.pace, 'line_us', int(mine + spacing)) end
    return {'turn', int(mine - horizon - now)}
  end
end

redis.call('HSET', K.ring, number % per_window, int(number) .. ':' .. int(slot + PRESUMED))
next_us = slot + spacing * SPACING
line = math.max(line or 0, slot + spacing)
local next_turn = -1
if lane == 'batch' and more then
  next_turn = math.max(0, line - horizon - now)
  line = line + spacing
end
redis.call('HSET', K.pace, 'next_us', int(next_us), 'line_us', int(line), 'slot', int(number + 1))
return {'slot', int(slot - now), int(number), int(slot), int(next_turn)}
