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

-- Tell the limiter when a slot's request reached the API at the latest: `arrived` is
-- "slot number:slots per window:sent, µs on this clock (empty: it never left):answer time, µs (empty:
-- no answer came)", or "" if there is nothing to tell. How much of an answer time was the way in is
-- unknown; all of it above the shortest is assumed.
local function note_arrival(arrived)
  if arrived == '' then return end
  local slot, per_window, sent_us, rtt = string.match(arrived, '^(%d+):(%d+):(%d*):(%d*)$')
  local index = ring_index(tonumber(slot), tonumber(per_window))
  local entry = redis.call('HGET', K.pace_ring, index)
  if not entry or string.match(entry, '^%d+') ~= slot then return end
  if sent_us == '' then
    redis.call('HSET', K.pace_ring, index, slot .. ':0') -- it holds none back
    return
  end
  rtt = tonumber(rtt)
  local pace = fields(K.pace, 'rtt_min_us', 'caution_us', 'heard')
  local shortest, caution = tonumber(pace.rtt_min_us) or rtt, tonumber(pace.caution_us) or 60000
  if not rtt then
    local known = tonumber(string.match(entry, ':(%d+)$'))
    redis.call('HSET', K.pace_ring, index, slot .. ':' .. int(math.max(known, sent_us + caution)))
    return
  end
  local heard = tonumber(pace.heard) or 0
  -- the shortest answer time creeps up, so that a longer route is believed after some minutes
  shortest = math.min(rtt, shortest + (rtt - shortest) / 2000)
  local excess = math.min(rtt - shortest, caution)
  -- the first few answers do not tell yet what the shortest is
  if heard < 40 then excess = caution end
  -- without refusals less and less of the excess is believed to be the way in, down to 12 ms
  caution = caution - (caution - 12000) / 6000
  redis.call('HSET', K.pace, 'rtt_min_us', int(shortest), 'caution_us', int(caution),
    'heard', int(heard + 1))
  redis.call('HSET', K.pace_ring, index, slot .. ':' .. int(tonumber(sent_us) + excess))
end

-- Batch callers reserve ahead, and an event takes the earliest slot that one of them has not begun to use.
-- K.pace tells who holds which: `held` is "number:time, µs" for each, `moved` "number:the slot that its
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

-- Begin to use a slot that is held. Reply: nil, or the number and time of the slot that it was moved to.
-- Twice: the same.
local function use_slot(number)
  local pace = fields(K.pace, 'held', 'moved')
  local moved, to, at = ' ' .. (pace.moved or ''), nil, nil
  local further, its_at = string.match(moved, ' ' .. number .. ':(%d+):(%d+)')
  while further do
    to, at = further, its_at
    further, its_at = string.match(moved, ' ' .. to .. ':(%d+):(%d+)')
  end
  if to then return to, at end
  redis.call('HSET', K.pace, 'held', without_slot(pace.held, number))
end
