-- What the limiter must know: when requests reached the API, and what it allows.

-- The rate that may be used now, slots per second: the limit, or the level at which the API refused
-- (somebody else spends part of the quota, or it was lowered). After `level_holds_s` that is passed, slowly
-- at first, to find out whether it is there still. producer/overview.py shows the same.
local function allowed_rate(limit, pace, now)
  local level = tonumber(pace.level)
  if not level then return limit end
  local past_s = math.max(0, (now - pace.level_at_us) / 1e6 - pace.level_holds_s)
  return math.min(limit, level + limit * LEVEL_GROWTH * past_s ^ 3)
end

-- Where a slot stands in the ring of arrivals. It holds several windows: the answer to a request may take
-- so long, and a refusal is judged by what came before the request.
local function ring_index(slot, per_window)
  return slot % (5 * per_window)
end

-- When a slot's request arrived by what is known, µs; nil if the ring does not have it.
local function ring_at(slot, per_window)
  local entry = redis.call('HGET', K.pace_ring, ring_index(slot, per_window)) or ''
  local of, arrived = string.match(entry, '^(%d+):(%d+)$')
  return tonumber(of) == slot and tonumber(arrived) or nil
end

local MOST_SORTED = 100    -- slots per window, up to which the ring is sorted for each slot

-- When the n-th latest of all requests arrived, whichever slot it had: one that is late counts when it
-- comes, and does not hold its own successor back for as long. nil if there were not so many since `since`.
local function nth_latest(n, number, since, per_window)
  if per_window > MOST_SORTED then return ring_at(number - n, per_window) end
  local arrivals = {}
  for _, entry in ipairs(redis.call('HVALS', K.pace_ring)) do
    local slot, at = string.match(entry, '^(%d+):(%d+)$')
    if slot and tonumber(slot) >= since and at ~= '0' then arrivals[#arrivals + 1] = tonumber(at) end
  end
  table.sort(arrivals)
  return arrivals[#arrivals + 1 - n]
end

-- How much of what is known of a request's time may have been its way in:
local SURE = 20            -- reports after which the shortest time is believed to be the shortest
local AFFORDABLE = 25000   -- µs of answer time above the shortest, on average, that are believed to be it
local MOST_USUAL = 50000   -- µs above the shortest (or four times the caution): what takes longer, as a packet
                           -- was lost, say, counts as this in the averages
local RESENT = 300000      -- µs by which an answer comes later, at most, if its packet was lost once
local FIRST_CAUTION, LEAST_CAUTION, MOST_CAUTION = 8000, 2000, 250000 -- µs
local CAUTION_FALLS = 0.0003 -- of it, with each answer that is no refusal
local UNPROVED, LEAST_UNPROVED = 60000, 12000 -- µs, where acknowledgements are not to be had; at first, anywhere

-- The shortest known time creeps up, so that a longer route is believed after some minutes.
local function shortest_of(known, us)
  known = tonumber(known) or us
  return math.min(us, known + (us - known) / 2000)
end

-- The average of about the last 50 of `count` earlier ones and this one.
local function averaged(known, us, count)
  known = tonumber(known) or us
  return known + (us - known) / math.min(count + 1, 50)
end

-- Record when slots' requests reached the API at the latest. `arrived` is "", or for each, after
-- a space, "slot number:slots per window:sent, µs on this clock (empty: it never left):answer time, µs
-- (empty: none has come):time until it was acknowledged, µs (empty: unknown)".
--
-- An acknowledgement bounds the way to the API's kernel (all of its time above the shortest is assumed
-- to be the way in), an answer the way to the counting. A queue between the two is bounded by nothing
-- else where the API's own work takes now longer, now shorter: the caution stands for it. Refusals
-- teach it, see more_caution.
local function note_one_arrival(slot, per_window, sent_us, answer, way)
  local index = ring_index(tonumber(slot), tonumber(per_window))
  local entry = redis.call('HGET', K.pace_ring, index)
  if not entry or string.match(entry, '^%d+') ~= slot then return end
  if sent_us == '' then
    redis.call('HSET', K.pace_ring, index, slot .. ':0') -- it holds none back
    return
  end
  sent_us, answer, way = tonumber(sent_us), tonumber(answer), tonumber(way)
  local pace = fields(K.pace, 'caution_us', 'unproved_us', 'way_min_us', 'ways', 'way_spread_us',
    'rtt_min_us', 'heard', 'spread_us', 'answer_us', 'unrefused')
  local caution = tonumber(pace.caution_us) or FIRST_CAUTION
  local unproved = tonumber(pace.unproved_us) or UNPROVED
  local answers, ways = tonumber(pace.heard) or 0, tonumber(pace.ways) or 0
  local most_usual = math.max(MOST_USUAL, 4 * caution)
  local way_spread = tonumber(pace.way_spread_us) or 0

  local excess = unproved
  if way then
    local shortest = shortest_of(pace.way_min_us, way)
    way_spread = averaged(way_spread, math.min(way - shortest, most_usual), ways)
    excess = (ways < SURE and way or way - shortest) + caution
    redis.call('HSET', K.pace, 'way_min_us', int(shortest), 'ways', int(ways + 1),
      'way_spread_us', int(way_spread))
  end
  if answer then
    local shortest = shortest_of(pace.rtt_min_us, answer)
    local above = answer - shortest
    local spread = averaged(pace.spread_us, math.min(above, most_usual), answers)
    if answers >= SURE then
      if spread <= math.max(AFFORDABLE, caution) then
        -- What answers vary more than acknowledgements is a queue; it hardly ever takes twenty times its
        -- average. An answer that comes later than that was lost and sent again, unless it is later still.
        local resent = way and above <= RESENT
        excess = resent and excess + 20 * math.max(0, spread - way_spread) or math.huge
      end
      excess = math.min(excess, above + spread / 4) -- as the shortest is not known exactly
    end
    caution = math.max(LEAST_CAUTION, caution * (1 - CAUTION_FALLS))
    unproved = unproved - (unproved - LEAST_UNPROVED) / 6000
    redis.call('HSET', K.pace, 'rtt_min_us', int(shortest), 'spread_us', int(spread),
      'answer_us', int(averaged(pace.answer_us, answer, answers)), 'heard', int(answers + 1),
      'unrefused', int((tonumber(pace.unrefused) or 0) + 1), 'caution_us', int(caution),
      'unproved_us', int(unproved))
  end
  if math.max(answers, ways) < SURE then excess = math.max(excess, UNPROVED) end
  local at = sent_us + excess
  if not answer and not way then at = math.max(at, tonumber(string.match(entry, ':(%d+)$'))) end
  redis.call('HSET', K.pace_ring, index, slot .. ':' .. int(at))
end

local function note_arrival(arrived)
  for each in string.gmatch(arrived, '%S+') do
    note_one_arrival(string.match(each, '^(%d+):(%d+):(%d*):(%d*):(%d*)$'))
  end
end

-- A refusal though the rate was kept: requests queue up on their way to the counting, longer than the
-- caution allows for. How much longer is estimated from how soon it came, as for waits that are spread
-- exponentially, so that one request in a thousand is refused at the new caution.
local function more_caution()
  local pace = fields(K.pace, 'caution_us', 'unrefused', 'slot', 'per_window')
  local caution = tonumber(pace.caution_us) or FIRST_CAUTION
  local unrefused = math.max(4, tonumber(pace.unrefused) or 0)
  local factor = math.max(1.3, math.min(4, math.log(500) / math.log(unrefused / 2)))
  local more = math.min(MOST_CAUTION, caution * factor) - caution
  redis.call('HSET', K.pace, 'caution_us', int(caution + more), 'unproved_us', UNPROVED, 'unrefused', 0)
  -- what arrived by the reckoning so far
  local number, per_window = tonumber(pace.slot) or 0, tonumber(pace.per_window) or 1
  for slot = number - per_window, number - 1 do
    local at = ring_at(slot, per_window)
    if at and at > 0 then
      redis.call('HSET', K.pace_ring, ring_index(slot, per_window), int(slot) .. ':' .. int(at + more))
    end
  end
end

-- Batch callers reserve ahead, and an event takes the earliest slot that one of them has not begun to use.
-- K.pace has who holds which: `held` is "number:time, µs" for each, `moved` "number:the slot that its
-- holder has instead:time, µs". Slots that are over are left out.
local function with_slot(list, added, now)
  local kept = {}
  for each in string.gmatch(list or '', '%S+') do
    if tonumber(string.match(each, '%d+$')) > now - 1e6 then kept[#kept + 1] = each end
  end
  kept[#kept + 1] = added
  return table.concat(kept, ' ')
end

local function without_slot(list, number)
  local kept = {}
  for each in string.gmatch(list or '', '%S+') do
    if string.match(each, '^%d+') ~= number then kept[#kept + 1] = each end
  end
  return table.concat(kept, ' ')
end

-- Begin to use a slot that is held. Reply: true; or its number and time if it was moved; or nil if nothing
-- is known of it (K.pace was lost, or it is over for a second), as an event may have it.
local function use_slot(number)
  local pace = fields(K.pace, 'held', 'moved')
  local held, moved, to, at = ' ' .. (pace.held or ''), ' ' .. (pace.moved or ''), nil, nil
  local further, its_at = string.match(moved, ' ' .. number .. ':(%d+):(%d+)')
  while further do
    to, at = further, its_at
    further, its_at = string.match(moved, ' ' .. to .. ':(%d+):(%d+)')
  end
  if to then return to, at end
  if not string.find(held, ' ' .. number .. ':', 1, true) then return nil end
  redis.call('HSET', K.pace, 'held', without_slot(held, number))
  return true
end
