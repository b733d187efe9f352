-- Protected calls of protected calls.
local function f(...) return pcall(...) end while true do f(f, f, pcall, pcall, pcall, error, {}) end
