package datascript

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"

	lua "github.com/yuin/gopher-lua"
)

// The module avi.crypto. Keys and results are raw bytes; encode them with
// avi.utils.base64_encode for a header or a cookie. encrypt and decrypt do not
// notice a changed ciphertext; seal and open do.
var cryptoEntries = []entry{
	{name: "encrypt", call: cryptoEncrypt},
	{name: "decrypt", call: cryptoDecrypt},
	{name: "seal", call: cryptoSeal},
	{name: "open", call: cryptoOpen},
}

const (
	cipherAES  = "AES"
	cipher3DES = "3DES"

	// defaultIV is the published one. For 3DES it is cut to the block.
	defaultIV = "0123456789012345"
)

// encrypt(plaintext, key [, iv [, algorithm]]) encrypts in CBC mode, with the
// padding of PKCS #7: with AES and a key of 16, 24 or 32 bytes, or with 3DES
// (avi.CIPHER_3DES) and a key of 24. The initialization vector is as long as a
// block, 16 or 8 bytes; the default is "0123456789012345" or its beginning.
func cryptoEncrypt(c call) int {
	plaintext := c.Str(1)
	block, iv := c.blockCipher()
	size := block.BlockSize()
	padding := size - len(plaintext)%size
	c.Allow(len(plaintext) + padding)
	c.encipher(block, len(plaintext))
	b := append([]byte(plaintext), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
	return c.RetString(string(b))
}

// decrypt(ciphertext, key [, iv [, algorithm]]) is the reverse of encrypt. It
// fails, always with the same words, if the ciphertext does not consist of
// blocks or if its padding is wrong.
func cryptoDecrypt(c call) int {
	ciphertext := c.Str(1)
	block, iv := c.blockCipher()
	size := block.BlockSize()
	c.Allow(len(ciphertext))
	c.encipher(block, len(ciphertext))
	if len(ciphertext) == 0 || len(ciphertext)%size != 0 {
		c.notDecryptable()
	}
	b := []byte(ciphertext)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(b, b)
	text, ok := unpad(b, size)
	if !ok {
		c.notDecryptable()
	}
	return c.RetString(string(text))
}

// encipher charges for size bytes: triple DES takes as long for one as the VM
// for an instruction and a half.
func (c call) encipher(block cipher.Block, size int) {
	if block.BlockSize() == des.BlockSize {
		c.Work(size + size/2)
	} else {
		c.Work(size >> 4)
	}
}

// unpad removes the padding of PKCS #7 from whole blocks. The time that it
// takes does not reveal the fault.
func unpad(b []byte, size int) (text []byte, ok bool) {
	padding := int(b[len(b)-1])
	good := subtle.ConstantTimeLessOrEq(1, padding) & subtle.ConstantTimeLessOrEq(padding, size)
	for i := 1; i <= size; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, padding)
		good &= 1 ^ inside | subtle.ConstantTimeByteEq(b[len(b)-i], byte(padding))
	}
	return b[:len(b)-good*padding], good == 1
}

// seal(text, key [, context]) encrypts and authenticates with AES-GCM, a key of
// 16, 24 or 32 bytes and a random nonce, which is the beginning of the result.
// The context, such as a purpose or the user's name, is not part of the result,
// but open needs it. It is an extension of this implementation.
//
// Use a key for at most 2^32 seals.
func cryptoSeal(c call) int {
	text := c.Str(1)
	aead := c.aead()
	c.Allow(len(text) + aead.Overhead())
	return c.RetString(string(aead.Seal(nil, nil, []byte(text), []byte(c.OptStr(3, "")))))
}

// open(sealed, key [, context]) returns the text that was sealed with the same
// key and context. Otherwise it fails, always with the same words. It is an
// extension of this implementation.
func cryptoOpen(c call) int {
	sealed := c.Str(1)
	aead := c.aead()
	c.Allow(len(sealed))
	text, err := aead.Open(nil, nil, []byte(sealed), []byte(c.OptStr(3, "")))
	if err != nil {
		c.notDecryptable()
	}
	return c.RetString(string(text))
}

func (c call) notDecryptable() { c.ArgError(1, "cannot be decrypted with this key") }

// blockCipher reads key, initialization vector and algorithm.
func (c call) blockCipher() (cipher.Block, []byte) {
	key := []byte(c.Str(2))
	var block cipher.Block
	var err error
	switch algorithm := c.OptStr(4, cipherAES); algorithm {
	case cipherAES:
		block, err = aes.NewCipher(key)
	case cipher3DES:
		block, err = des.NewTripleDESCipher(key)
	default:
		c.ArgError(4, "avi.CIPHER_AES or avi.CIPHER_3DES expected")
	}
	if err != nil {
		c.ArgError(2, "a key of %d bytes does not fit", len(key))
	}
	iv := []byte(defaultIV)[:block.BlockSize()]
	if c.Arg(3) != lua.LNil {
		if iv = []byte(c.Str(3)); len(iv) != block.BlockSize() {
			c.ArgError(3, "initialization vector of %d bytes expected, got %d", block.BlockSize(), len(iv))
		}
	}
	return block, iv
}

func (c call) aead() cipher.AEAD {
	key := []byte(c.Str(2))
	block, err := aes.NewCipher(key)
	if err != nil {
		c.ArgError(2, "a key of %d bytes does not fit", len(key))
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		c.FailWith(err)
	}
	return aead
}
