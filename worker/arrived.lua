-- Record when a request reached the API at the latest, where no outcome that carries it follows soon.
-- arrived: see note_arrival
-- Twice: nothing changes but how often the network delay counts as measured.
local A = arguments('arrived')
note_arrival(A.arrived)
