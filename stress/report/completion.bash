# SPDX-License-Identifier: MIT OR Apache-2.0
# Completion of exitbus-stress for bash. The program itself says what there is, so this is never
# behind it.

_exitbus_stress() {
    local program=$1 word=${COMP_WORDS[COMP_CWORD]} previous=
    COMPREPLY=()
    [ "$COMP_CWORD" -eq 0 ] || previous=${COMP_WORDS[COMP_CWORD - 1]}
    # "--option=value" comes as three words.
    if [ "$word" = = ]; then
        word=
    elif [ "$previous" = = ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $previous in
    --scenario | -S)
        local before=
        [[ $word != *,* ]] || before=${word%,*},
        mapfile -t COMPREPLY < <(compgen -P "$before" -W \
            "$("$program" --list 2>/dev/null | sed -n '/^scenarios/,/^subjects/s/^  \([a-z_-]*\) .*/\1/p')" \
            -- "${word##*,}")
        ;;
    --subject)
        mapfile -t COMPREPLY < <(
            compgen -W \
                "$("$program" --list 2>/dev/null | sed -n '/^subjects/,$s/^  \([a-z_-]*\) .*/\1/p')" \
                -- "$word"
            compgen -f -X '!*.so' -- "$word"
        )
        ;;
    --plugin)
        mapfile -t COMPREPLY < <(compgen -f -X '!*.so' -- "$word")
        ;;
    --json | --report | --junit | --tap | --trace | --history | --child)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W \
            "$("$program" --help 2>/dev/null | grep -oE '^ +(-., )?--[a-z-]+=?' | grep -oE -- '--.*')" \
            -- "$word")
        ;;
    esac
    [ ${#COMPREPLY[@]} -ne 1 ] || [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}

complete -o default -F _exitbus_stress exitbus-stress
