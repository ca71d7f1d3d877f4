-- What the limiter must know: when requests reached the API, and how refusals slow the rate.

-- The share of the rate `since_us` after it was `factor`: from none to all of it in a minute, from the
-- slowest in 45 s (`producer/overview.py` shows it by the same number).
local function recovered(factor, since_us)
  return math.min(1, factor + math.max(0, since_us) / 60e6)
end

-- Tell the limiter when a slot's request reached the API at the latest: `arrived` is
-- "slot number:slots per window:sent, µs on this clock (empty: it never left):answer time, µs (empty:
-- no answer came)", or "" if there is nothing to tell. How much of an answer time was the way in is
-- unknown; all of it above the shortest is assumed.
local function note_arrival(arrived)
  if arrived == '' then return end
  local slot, per_window, sent_us, rtt = string.match(arrived, '^(%d+):(%d+):(%d*):(%d*)$')
  local index = tonumber(slot) % tonumber(per_window)
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
