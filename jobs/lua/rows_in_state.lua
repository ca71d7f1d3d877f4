-- Find rows of a batch by what became of them. Changes nothing.
-- first: index of the first row (0, 1 ...); count: rows to look at; most: rows to name
-- states: ",sent,dead,"; a job that a person left as it is has the state "left" here,
--   and one that failed, or a rejected row, whose customer a corrected file took over "corrected"
-- besides: codes of rejected rows that do not count, likewise
-- Reply: {rows looked at, number of each row found ...}
-- Twice: the same, as far as nothing has happened in between.
local A = arguments('batch', 'first:number', 'count:number', 'most:number', 'states', 'besides')
local b = fields(K.batch(A.batch), 'cursor', 'state')
local cursor = tonumber(b.cursor) or 0
local unfed = b.state == BATCH.CANCELLED and 'cancelled' or 'queued'

local function state_of(id, number)
  local state, last = nil, id
  for _ = 1, 100 do
    local job = redis.pcall('HMGET', K.job(last), 'state', 'replaced_by', 'dropped', 'corrected')
    if job.err then return 'unknown' end -- as `JobRecord.unreadable`
    if not job[1] then break end
    state = job[1]
    if FOR_A_PERSON[state] then
      state = job[3] and 'left' or corrected_by(job[4]) ~= '' and 'corrected' or state
    end
    if not job[2] then break end
    last = job[2]
  end
  return state or (number > cursor and unfed or 'forgotten')
end

local rows = redis.call('LRANGE', K.rows(A.batch), A.first, A.first + A.count - 1)
local found = {#rows}
for i, row in ipairs(rows) do
  local number, mark = A.first + i, string.byte(row)
  local state
  if mark == 9 then
    local code = string.match(row, '^\t([^\t]*)')
    if not string.find(A.besides, ',' .. code .. ',', 1, true) then
      local by = corrected_by(redis.call('HGET', K.corrected(A.batch), int(number)))
      state = by ~= '' and 'corrected' or 'rejected'
    end
  elseif mark == 45 and number > cursor then
    state = 'cancelled'
  else
    state = state_of(A.batch .. '-' .. int(number), number)
  end
  if state and string.find(A.states, ',' .. state .. ',', 1, true) then
    found[#found + 1] = number
    if #found > A.most then
      found[1] = i
      break
    end
  end
end
return found
