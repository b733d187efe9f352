package persistence

import "os"

func load(path string) error {
	_, err := os.ReadFile(path)
	return err
}
