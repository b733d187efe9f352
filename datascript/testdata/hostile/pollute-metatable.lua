-- Replaces the metatables of libraries.
for _, t in ipairs{avi, avi.vs, avi.http, avi.pool, avi.ipgroup, string, table, math, os} do pcall(setmetatable, t, {}) pcall(setmetatable, t, nil) end
