-- Unpacks absurd ranges.
pcall(unpack, {}, -2^31, 2^31) pcall(unpack, {}, 1, 2^53) return unpack({}, 1, 1e8)
