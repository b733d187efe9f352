-- Seeds the generator that others use.
math.randomseed(42) for i = 1, 100 do math.random() end
