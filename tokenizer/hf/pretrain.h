// The C functions of tokenizer/rust/src/ffi.rs, which says what they do.
#ifndef PRETRAIN_H
#define PRETRAIN_H

#include <stddef.h>
#include <stdint.h>

typedef struct pretrain_trainer pretrain_trainer;
typedef struct pretrain_encoder pretrain_encoder;

char *pretrain_trainer_new(const uint8_t *pattern, size_t pattern_len, uint64_t vocab_size, uint64_t min_frequency,
                           const uint8_t *special, const uint64_t *special_lens, size_t special_count,
                           pretrain_trainer **out);
char *pretrain_trainer_feed(pretrain_trainer *, const uint8_t *data, const uint64_t *lens, size_t count);
char *pretrain_trainer_train(pretrain_trainer *, uint8_t **out, size_t *out_len);
void pretrain_trainer_free(pretrain_trainer *);

char *pretrain_encoder_new(const uint8_t *json, size_t len, pretrain_encoder **out);
char *pretrain_encoder_encode(const pretrain_encoder *, const uint8_t *data, const uint64_t *lens, size_t count,
                              uint64_t *id_counts, uint32_t **out, size_t *out_len);
void pretrain_encoder_free(pretrain_encoder *);

void pretrain_bytes_free(uint8_t *data, size_t len);
void pretrain_ids_free(uint32_t *ids, size_t len);
void pretrain_string_free(char *message);

#endif
