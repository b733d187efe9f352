package jwtkeys

import (
	"crypto/sha256"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	cacheShards    = 16
	cachePerShard  = 256
	maxCachedBytes = 8 << 10
)

// A cache remembers tokens whose signatures are good, for as long as their set
// has the keys that it had. It keeps no token, only hashes.
type cache struct{ shards [cacheShards]shard }

type shard struct {
	mu      sync.Mutex
	entries *simplelru.LRU[tokenID, *verified]
}

// A tokenID names a token and the keys that have verified it.
type tokenID struct {
	hash [sha256.Size]byte
	keys *ring
}

func newCache() *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].entries, _ = simplelru.NewLRU[tokenID, *verified](cachePerShard, nil) // fails for sizes that are not positive
	}
	return c
}

func (c *cache) shard(id *tokenID) *shard { return &c.shards[id.hash[0]%cacheShards] }

func (c *cache) get(id *tokenID) (*verified, bool) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries.Get(*id)
}

func (c *cache) put(id *tokenID, t *verified) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.Add(*id, t)
}

func (c *cache) remove(id *tokenID) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.Remove(*id)
}

// forget removes the tokens that these keys have verified.
func (c *cache) forget(keys *ring) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, id := range s.entries.Keys() {
			if id.keys == keys {
				s.entries.Remove(id)
			}
		}
		s.mu.Unlock()
	}
}

// count returns the number of tokens.
func (c *cache) count() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.entries.Len()
		s.mu.Unlock()
	}
	return n
}
