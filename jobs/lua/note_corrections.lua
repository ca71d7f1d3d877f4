-- Note at failed jobs which rows of a corrected file stand for their customers from now on. The
-- rows need not be there yet: whoever tries a failed job again meanwhile must know already.
-- pairs: for each row the id of the job that it corrects, and the id that its own job will have
-- Twice: noted once.
local A = arguments('pairs:rest')
for i = 1, #A.pairs, 2 do
  local key, new = K.job(A.pairs[i]), A.pairs[i + 1]
  local values = redis.pcall('HMGET', key, 'state', 'corrected')
  if values[1] and A.pairs[i] ~= new then
    local was = values[2] or ''
    if not string.find(',' .. was .. ',', ',' .. new .. ',', 1, true) then
      redis.call('HSET', key, 'corrected', was == '' and new or was .. ',' .. new)
    end
  end
end
return 1
