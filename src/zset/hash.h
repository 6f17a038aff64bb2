/*-------------------------------------------------------------------------
 *
 * hash.h
 *	  What the hashes of rows and those of keys have in common.
 *
 * A hash is a hint: whatever is found by one is compared.  With 64 bits that
 * comparison hardly ever finds a difference, so a debug build can leave a few
 * bits only (ivm.debug_hash_bits), and then it often does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_HASH_H
#define IVM_HASH_H

#include "postgres.h"

#include "base/settings.h"

/* Spreads a hash over all bits; invertible. */
static inline uint64
ivm_hash_spread(uint64 hash)
{
	hash ^= hash >> 32;
	hash *= UINT64CONST(0xd6e8feb86659fd93);
	hash ^= hash >> 32;
	hash *= UINT64CONST(0xd6e8feb86659fd93);
	hash ^= hash >> 32;
	return hash;
}

/* Every hash of a row or of a key goes through this when it has been made. */
static inline uint64
ivm_hash_finish(uint64 hash)
{
#ifdef IVM_DEBUG
	if (ivm_debug_hash_bits < 64)
		return ivm_hash_spread(hash & ((UINT64CONST(1) << ivm_debug_hash_bits) - 1));
#endif
	return hash;
}

#endif							/* IVM_HASH_H */
