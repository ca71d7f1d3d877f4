-- Reserve the next slot of the account's rate, on this server's clock (all times µs).
--
-- Two rules hold each slot back. Spacing: it comes a little less than window / rate after the one
-- before, so that nothing bursts and a late slot can be made up for. The window: it comes at least
-- one window after the rate-th latest of the requests before it *arrived* at the API, at the latest
-- that it can have. A worker reports that with the attempt's outcome (note_arrival); until then the
-- slot's own time and a presumed delay stand for it.
--
-- A batch caller may not reserve further ahead than the horizon. It learns when to come back, in
-- a line of such turns, so that nobody polls and an event never stands behind sleeping callers. An event
-- takes the earliest slot that a batch caller holds and has not begun to use; that one has the event's
-- instead, as it finds out when it begins.
--
-- A place in that line is a time as the line was planned; `lag` is how much later (or earlier) than
-- planned the slots really come, so that all who wait in it are corrected at once. A place from
-- before the history was last in doubt is void: the clock that it was planned by may be another.
--
-- Each caller passes what it knows of the past. That shows a server that has forgotten slots (a
-- failover to a replica that lagged) or whose clock went forward while slots were granted ahead.
-- So does the ring, if its newest slot or the one a window before is missing (it was lost or set back), or
-- it has the next one (K.pace was set back).
--
-- place: "", or the caller's place in the line, from an earlier reply; more: "1" if another caller of this
--   process waits, and takes the next place
-- per_window: slots; late_us: how much later than others this caller uses its slots, as far as it knows
-- last, last_us, expected_us: if it has had a slot, the last one's number, that slot's time, and what
--   this clock should show now at least; arrived: see note_arrival
-- Reply: {"slot", wait_us, slot number, slot µs, next place or "", µs until its turn, per_window, the newest
--   slot's number, its µs}
--      | {"turn", place, µs until its turn}
-- Twice: a slot is lost, no more.
local A = arguments('lane', 'place', 'more', 'per_window:number', 'window_us:number', 'horizon_us:number',
  'late_us:number', 'arrived', 'last?:number', 'last_us?:number', 'expected_us?:number')
local lane, more, late = A.lane, A.more == '1', A.late_us
local per_window, window, horizon = A.per_window, A.window_us, A.horizon_us
local last, last_us, expected = A.last or -1, A.last_us, A.expected_us
local SPACING = 0.95       -- of window / rate: how quickly lateness is made up for
local PRESUMED = 75000     -- a request not yet reported arrived so much after its slot, and `late`, at most
local COMES_BACK = 0.45    -- of the horizon before its turn, and `late`: a slot that comes later is in reach
local STEP = 1e6           -- a clock that is off by more than that has stepped
local RATE_HOLDS_US = 10e6 -- how long a lower rate holds after the last caller that is set to it

note_arrival(A.arrived)
local now = now_us()
local pace = fields(K.pace, 'next_us', 'line_us', 'slot', 'per_window', 'level', 'level_at_us',
  'level_holds_s', 'lag_us', 'window_us', 'rate_seen_us', 'asked_us', 'since', 'slot_us',
  'held', 'moved', 'caution_us')
local held, moved = pace.held or '', pace.moved or ''
for name, value in pairs(pace) do pace[name] = tonumber(value) end
local next_us, line, lag = pace.next_us, pace.line_us or 0, pace.lag_us or 0
local number, since = pace.slot or 0, pace.since or 0
local asked_us = pace.asked_us or 0

-- Callers may be set to different rates (a roll-out, a forgotten machine): the lowest holds.
local known, known_window, rate_at = pace.per_window, pace.window_us, pace.rate_seen_us or 0
local stepped = now < asked_us - STEP or (last >= since and now > (expected or now) + STEP)
if known and known_window and known / known_window < per_window / window
    and not stepped and now - rate_at < RATE_HOLDS_US then
  per_window, window = known, known_window
else
  rate_at = now
end

local function is_missing(slot) return slot >= since and not ring_at(slot, per_window) end

-- Unknown history (first use, a failover or a deletion that lost it or a part, a clock that stepped,
-- another rate): stay silent for one window after all that was granted, as far as the caller, the
-- ring and we know, so that it cannot add to what comes. What callers find out later does not prolong it.
if not next_us or stepped or last >= number or known ~= per_window or known_window ~= window
    or is_missing(number - 1) or is_missing(number - per_window) or ring_at(number, per_window) then
  local granted = now + (last_us and math.max(0, last_us - expected) or 0)
  if stepped then
    -- what was granted ahead still comes, as it was by the clock before
    granted = math.max(granted, now + (next_us or 0) - asked_us)
  else
    granted = math.max(granted, pace.slot_us or next_us or 0)
  end
  for _, entry in ipairs(redis.call('HVALS', K.pace_ring)) do
    local slot, arrived = string.match(entry, '^(%d+):(%d+)$')
    number = math.max(number, (tonumber(slot) or -1) + 1)
    if not stepped then granted = math.max(granted, tonumber(arrived) or 0) end
  end
  next_us = math.max(not stepped and next_us or 0, granted + window)
  number = math.max(number, last + 1)
  line, lag, since, held = 0, 0, number, ''
  if pace.level and pace.level_at_us > now then -- or a slow fleet would stay so until then
    pace.level_at_us = now
    redis.call('HSET', K.pace, 'level_at_us', int(now))
  end
  redis.call('DEL', K.pace_ring)
  -- what callers know of slots before `since` does not count any more
  redis.call('HSET', K.pace, 'per_window', per_window, 'window_us', int(window),
    'since', int(since), 'slot', int(number), 'next_us', int(next_us), 'slot_us', int(granted),
    'line_us', 0, 'lag_us', 0)
end
redis.call('HSET', K.pace, 'asked_us', int(now), 'rate_seen_us', int(rate_at))

-- Where the API allows less than the limit, fewer slots make a window (or just one, and a longer window).
local rate = allowed_rate(per_window / window * 1e6, pace, now) / 1e6 -- slots per µs
local count = math.max(1, math.ceil(rate * window - 1e-6))
local spacing = 1 / rate
local apart = spacing + (pace.caution_us or 0) / count -- as they come, each held back by the caution

local free = next_us -- the earliest time that both rules allow
local oldest = nth_latest(count, number, since, per_window)
if oldest then free = math.max(free, oldest + count * spacing) end
local slot = math.max(now, free)

local ahead = late + (horizon - late) * COMES_BACK

local function encoded(place) return int(since) .. ':' .. int(place) end

local next_place, next_turn = '', 0
if lane == 'batch' then
  local place = tonumber(string.match(A.place, '^' .. int(since) .. ':(%d+)$'))
  local turned = place ~= nil
  if turned then
    lag = lag + (free - place - lag) / 8
  else
    place = math.max(line, free - lag)
    line = place + apart
  end
  local its = turned and slot or math.max(slot, place + lag)
  if its - now > horizon then
    redis.call('HSET', K.pace, 'line_us', int(line), 'lag_us', int(lag))
    return {'turn', encoded(place), int(its - ahead - now)}
  end
  if more then
    local planned = math.max(line, slot + apart - lag)
    line = planned + apart
    next_place, next_turn = encoded(planned), math.max(0, planned + lag - ahead - now)
  end
end

local function note(of, at, late_by)
  redis.call('HSET', K.pace_ring, ring_index(of, per_window), int(of) .. ':' .. int(at + late_by + PRESUMED))
end

note(number, slot, late)
local mine, mine_us = number, slot
if lane == 'batch' then
  held = with_slot(held, int(number) .. ':' .. int(slot), now)
else
  for of, at in string.gmatch(held, '(%d+):(%d+)') do
    if tonumber(at) > now and tonumber(at) < mine_us then mine, mine_us = tonumber(of), tonumber(at) end
  end
  if mine ~= number then
    -- each slot has another user now, who may use it later than the first
    local holder_late = (ring_at(mine, per_window) or 0) - mine_us - PRESUMED
    note(number, slot, math.max(late, holder_late))
    note(mine, mine_us, late)
    held = with_slot(without_slot(held, int(mine)), int(number) .. ':' .. int(slot), now)
    moved = with_slot(moved, int(mine) .. ':' .. int(number) .. ':' .. int(slot), now)
  end
end
redis.call('HSET', K.pace, 'next_us', int(slot + spacing * SPACING), 'line_us', int(line),
  'lag_us', int(lag), 'slot', int(number + 1), 'slot_us', int(slot), 'held', held, 'moved', moved)
return {'slot', int(mine_us - now), int(mine), int(mine_us), next_place, int(next_turn), per_window,
  int(number), int(slot)}
