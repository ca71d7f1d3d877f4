-- Count some dead letters by code, country and batch, and name those that fit. It changes nothing.
-- Those whose customers a corrected file took over wait for nobody, and are only counted.
-- first, last: places in the list; code: "any" | "=" and the code; batch, cc: "" for any
-- since_ms, until_ms: between which they ended; until_ms: "" for any
-- skip: the newest so many that fit are not named; most: so many are named
-- Reply: JSON: fitting; by_code, perhaps_sent (that fit but for the code), by_country, by_batch (of all);
--   corrected, of those by code, and corrected_here, of those of the batch by state and code; ids, the newest first
local A = arguments('first:number', 'last:number', 'code', 'batch', 'cc', 'since_ms:number',
  'until_ms:number', 'skip:number', 'most:number')
local by_code, perhaps_sent, by_country, by_batch, corrected, states, named, fitting = {}, {}, {}, {}, {}, {}, {}, 0

local fits_all = A.batch == '' and A.cc == '' and A.since_ms == 0 and not A.until_ms
local exact = A.code ~= 'any' and string.sub(A.code, 2)
local ids = redis.call('LRANGE', K.dead, A.first, A.last)
for i = #ids, 1, -1 do
  local id = ids[i]
  local values = redis.pcall('HMGET', K.job(id), 'state', 'code', 'batch', 'cc', 'finished', 'corrected')
  local state = values[1]
  if state and FOR_A_PERSON[state] and corrected_by(values[6]) ~= '' then
    corrected[values[2] or ''] = (corrected[values[2] or ''] or 0) + 1
    if A.batch == values[3] then
      local name = state .. ' ' .. (values[2] or '')
      states[name] = (states[name] or 0) + 1
    end
  elseif state ~= false and (not state or FOR_A_PERSON[state] or not FINAL[state] and not OPEN[state]) then
    -- a record that cannot be read fits whatever is asked for, as `JobRecord.unreadable`
    local is_broken = not FOR_A_PERSON[state]
    local code = is_broken and CODE.UNREADABLE or values[2] or ''
    local batch, cc = values[3] or '', values[4] or ''
    by_country[cc] = (by_country[cc] or 0) + 1
    by_batch[batch] = (by_batch[batch] or 0) + 1
    local ended = tonumber(values[5]) or 0
    if fits_all or is_broken or (A.batch == '' or A.batch == batch) and (A.cc == '' or A.cc == cc)
        and ended >= A.since_ms and (not A.until_ms or ended <= A.until_ms) then
      by_code[code] = (by_code[code] or 0) + 1
      if is_broken or state == 'unknown' then perhaps_sent[code] = (perhaps_sent[code] or 0) + 1 end
      if is_broken or not exact or exact == code then
        fitting = fitting + 1
        if fitting > A.skip and #named < A.most then named[#named + 1] = id end
      end
    end
  end
end
return cjson.encode({fitting = fitting, by_code = by_code, perhaps_sent = perhaps_sent,
  by_country = by_country, by_batch = by_batch, corrected = corrected, corrected_here = states, ids = named})
