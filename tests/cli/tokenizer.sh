# lvrun tokenizer: train on a text, on a data set's captions, on standard input; encode, decode, info; what is said of mistakes.
files=$root/tests/unit/tokenizers.d
lvrun tokenizer train --captions "$files/captions.txt" --vocab-size 400 --lowercase --output lower.json; succeeds train || return 0
holds train_as_known cmp lower.json "$files/trained_lowercase.json"
holds train_says grep -qx 'lower.json: 400 tokens, 143 merges; the end token is 399' out
lvrun tokenizer train --captions "$files/captions.txt" --vocab-size 640 --special '<|photo|>' -o t.json; said fewer_tokens
holds fewer_as_known cmp t.json "$files/trained.json"
lvrun tokenizer train --captions - --vocab-size 640 --special '<|photo|>' -o piped.json --json <"$files/captions.txt"; succeeds train_piped
holds piped_the_same cmp t.json piped.json
is train_json "$(cat out)" '{"file": "piped.json", "captions": 21, "words": 177, "merges": 193, "tokens": 451, "end": 450}'

pictures set 3
printf 'a red house\na red door\n' >set/p1.txt
printf 'a red car' >set/p2.txt
printf 'a red house\na red door\na red car\n' >set.txt
printf 'p1.ppm\ta red house\np1.ppm\ta red door\n\np2.ppm\ta red car\n' >list.txt
mkdir list && mv list.txt set/list.txt
lvrun tokenizer train --captions set.txt --vocab-size 270 -o a.json; succeeds train_lines
lvrun tokenizer train --captions set --vocab-size 270 -o b.json; succeeds train_data_set
lvrun tokenizer train --captions set/list.txt --vocab-size 270 -o c.json; succeeds train_list
holds data_set_as_lines cmp a.json b.json
holds list_as_lines cmp a.json c.json

encoded() { tr '\n' ';' <out; }
lvrun tokenizer encode --tokenizer t.json 'a cat' '<|photo|>'; is encode "$(encoded)" '64 429;449;'
printf 'a cat\r\n\n<|photo|>' >lines
lvrun tokenizer encode --tokenizer t.json <lines; is encode_lines "$(encoded)" '64 429;;449;'
lvrun tokenizer encode --tokenizer t.json - <lines; is encode_dash "$(encoded)" '64 429;;449;'
lvrun tokenizer encode --tokenizer t.json --length 3 'a' 'XYZ' ; is encode_length "$(encoded)" '64 450 450;55 56 450;'
holds encode_cut grep -qx 'lvrun: warning: 1 text was cut to 3 ids' err
lvrun tokenizer encode --tokenizer t.json --json 'é'; is encode_json "$(cat out)" '{"text":"é","ids":[127,102],"tokens":["Ã","©"]}'
lvrun tokenizer encode --tokenizer "$files/clip.txt.gz" --specials 'A'; is encode_clip "$(encoded)" '1212 320 1213;'
lvrun tokenizer decode --tokenizer t.json 64 429 450; is decode "$(encoded)" 'a cat;'
lvrun tokenizer decode --tokenizer t.json --specials '[64, 429, 450]'; is decode_specials "$(encoded)" 'a cat<|endoftext|>;'
lvrun tokenizer decode --tokenizer t.json --json 64; is decode_json "$(cat out)" '{"ids":[64],"text":"a"}'
lvrun tokenizer encode --tokenizer t.json <"$files/captions.txt"; cp out ids
lvrun tokenizer decode --tokenizer t.json <ids; cp out back
lvrun tokenizer encode --tokenizer t.json <back; holds there_and_back cmp ids out

lvrun tokenizer info t.json; succeeds info
holds info_end grep -qx 'end token       <|endoftext|>, 450' out
holds info_words grep -qx 'pre-tokenizer   ByteLevel' out
lvrun tokenizer info t.json --tokens; is info_tokens "$(tail -1 out)" "$(printf '450\t<|endoftext|>')"
lvrun tokenizer info "$files/clip.txt.gz" --json; holds info_json grep -q '"vocabulary": 1214' out

lvrun tokenizer; said tokenizer_alone
lvrun tokenizer trian; said tokenizer_task
lvrun tokenizer --help; succeeds tokenizer_help
for task in train encode decode info; do lvrun tokenizer $task --help; succeeds "help_$task"; holds "examples_$task" grep -q '^Examples:' out; done
lvrun help tokenizer; succeeds help_tokenizer
lvrun tokenizer encode 'a'; said tokenizer_missing
lvrun tokenizer encode --tokenizer nowhere.json a; said tokenizer_nowhere
lvrun tokenizer encode --tokenizer lines a; said tokenizer_other_file
lvrun tokenizer encode --tokenizer t.json --lenght 3 a; said tokenizer_option
lvrun tokenizer decode --tokenizer t.json 64 451; said decode_id
lvrun tokenizer decode --tokenizer t.json 64 house; said decode_word
lvrun tokenizer info; said info_none
lvrun tokenizer train; said train_nothing
lvrun tokenizer train --captions set.txt extra; said train_word
lvrun tokenizer train --captions set.txt --vocab-size 100; said train_small
lvrun tokenizer train --captions /dev/null; said train_empty
lvrun tokenizer train --captions nowhere.txt; said train_nowhere
lvrun tokenizer train --captions set.txt --vocab-size 260 -o no/such/place.json; said train_output
rm set/*.txt
lvrun tokenizer train --captions set; said train_without_captions
holds full_output test "$(timeout 9 "$bin/lvrun" tokenizer encode --tokenizer t.json a 2>&1 >/dev/full | head -1)" = 'lvrun: error: cannot write standard output: No space left on device'
